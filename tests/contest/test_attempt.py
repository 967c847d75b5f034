"""The clock of a run, and what counts."""

import math
import time

import numpy as np
import pytest

from coldpress.contest.attempt import KEPT_READS, Attempt, repeat, spread


def test_the_best_read_counts_and_the_trace_only_improves():
    attempt = Attempt(60.0)
    attempt.offer([[0, 1], [1, 1]], [3.0, 2.0])
    attempt.offer([[1, 0]], [2.5])
    attempt.offer([[0, 0]], [1.0], [3])
    assert [energy for _, energy in attempt.trace] == [2.0, 1.0]
    assert attempt.best.tolist() == [0, 0]
    assert attempt.energies == [3.0, 2.0, 2.5, 1.0, 1.0, 1.0]


def test_what_is_found_after_the_limit_does_not_count_but_is_a_read():
    attempt = Attempt(1.0, begin=time.perf_counter() - 2.0)
    attempt.offer([[1]], [0.0])
    assert attempt.energy == math.inf
    assert attempt.best is None
    assert attempt.energies == [0.0]
    assert attempt.left == 0.0


def test_only_so_many_reads_are_kept():
    attempt = Attempt(60.0)
    attempt.offer(np.zeros((KEPT_READS + 5, 2)), np.arange(KEPT_READS + 5))
    assert len(attempt.states) == len(attempt.energies) == KEPT_READS
    assert attempt.energy == 0.0


class Clockless(Attempt):
    """An attempt whose time passes by the effort alone."""

    passed = 0.0

    @property
    def seconds(self):
        return self.passed


def test_effort_doubles_and_the_last_calls_take_what_is_left():
    attempt, efforts, seeds = Clockless(100.0), [], []

    def read(effort, seed):
        efforts.append(effort)
        seeds.append(seed)
        attempt.passed += effort

    repeat(attempt, read, 1.0, 1.0, seed=3)
    assert efforts[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert sum(efforts) == pytest.approx(100.0)
    assert len(set(seeds)) == len(seeds)


def test_at_least_one_call_is_made():
    attempt, calls = Attempt(0.0), []
    repeat(attempt, lambda effort, seed: calls.append(effort), 5.0, 1.0, seed=0)
    assert calls == [5.0]


def test_the_spread_of_reads():
    states = [np.array(row) for row in ([0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0])]
    found = spread(states)
    assert (found["reads"], found["distinct"]) == (3, 2)
    assert found["distance"] == pytest.approx((0.0 + 0.5 + 0.5) / 3)
    assert spread(states[:1]) == {"reads": 1, "distinct": 1, "distance": None}
    assert spread([]) == {"reads": 0, "distinct": 0, "distance": None}
