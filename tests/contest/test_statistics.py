"""Gaps, successes and times, from runs made by hand."""

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from coldpress.contest.statistics import anytime, gap, hit_evaluations, hit_time, summary, time_to_solution, wilson
from coldpress.report.contest import evaluations_text


def run(seed, trace, *, solver="a", instance=0, bound=None, best=(0, 1)):
    return {
        "family": "f", "instance": instance, "solver": solver, "seed": seed, "seconds": 8.0, "trace": trace,
        "energy": trace[-1][1] if trace else None, "bound": bound, "took": 8.0, "best": list(best) if trace else None,
        "energies": [energy for _, energy in trace], "reads": len(trace), "distinct": len(trace), "distance": 0.5,
        "more": {},
    }  # fmt: skip


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (7, 21)])
def test_the_interval_is_that_of_wilson(successes, trials):
    known = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((known.low, known.high))


def test_time_to_solution_repeats_runs_of_the_best_length():
    assert time_to_solution([math.inf, math.inf]) == math.inf
    assert time_to_solution([2.0, 1.0]) == pytest.approx(2.0)  # runs of 2 s never fail; of 1 s it takes 6.6 of them
    half = math.log(0.01) / math.log(0.5)
    assert time_to_solution([1.0, math.inf]) == pytest.approx(half)
    assert time_to_solution([1.0, 100.0]) == pytest.approx(half)


def test_a_hit_is_the_first_moment_at_the_target():
    facts = run(0, [[1.0, 5.0], [2.0, 3.0], [4.0, 1.0]])
    assert hit_time(facts, 3.0) == 2.0
    assert hit_time(facts, 0.5) == math.inf


def test_evaluations_are_counted_until_the_target():
    facts = run(0, [[1.0, 5.0], [2.0, 3.0]])
    assert hit_evaluations(facts, 3.0) is None
    facts["evaluations"] = [64, 640, 700]
    assert hit_evaluations(facts, 3.0) == 640
    assert hit_evaluations(facts, 1.0) == math.inf
    (row,) = summary([facts], {}, within=0.0)
    assert (row["evaluations_to_target"], row["evaluations"]) == (640, 700)
    assert evaluations_text(row) == "640 plans"
    other = run(0, [[1.0, 2.0]], solver="b")
    row = next(row for row in summary([facts, other], {}, within=0.0) if row["solver"] == "a")
    assert evaluations_text(row) == "700 plans in all"


def test_gaps_are_relative_to_the_reference_also_below_zero():
    assert gap(-9.0, -10.0) == pytest.approx(0.1)
    assert gap(-10.0, -10.0) == 0.0
    assert gap(None, 1.0) == math.inf


def test_anytime_curves_fall_and_begin_where_enough_runs_have_found_something():
    runs = [run(0, [[1.0, 4.0], [4.0, 2.0]]), run(1, [[2.0, 3.0]]), run(2, [])]
    curves = anytime(runs, [2.0] * 3, np.array([0.5, 1.0, 2.0, 4.0, 8.0]))
    assert curves.shape == (3, 5)
    assert (curves[:, 1:] <= curves[:, :-1]).all()
    assert curves[1].tolist() == [math.inf, math.inf, 1.0, 0.5, 0.5]
    assert (curves[0] <= curves[2]).all()


def test_a_row_counts_against_the_best_of_all_solvers_on_the_same_instance():
    facts = [
        run(0, [[1.0, 10.0]], bound=8.0),
        run(1, [[2.0, 12.0]], bound=9.0),
        run(0, [[1.0, 20.0]], instance=1, bound=20.0),
        run(0, [[0.5, 11.0]], solver="b"),
        {"family": "f", "instance": 0, "solver": "c", "seed": 0, "seconds": 8.0, "refused": "too large"},
    ]
    rows = {row["solver"]: row for row in summary(facts, {}, within=0.05)}
    assert set(rows) == {"a", "b"}
    assert (rows["a"]["successes"], rows["a"]["runs"]) == (2, 3)
    assert rows["a"]["gap_to_best"] == pytest.approx([0.0, 0.0, 0.2])
    assert rows["b"]["successes"] == 0
    assert rows["b"]["gap_to_best"][1] == pytest.approx(0.1)
    assert rows["b"]["gap_to_bound"][1] == pytest.approx(2 / 11)  # the highest bound of any solver
    assert rows["b"]["time_to_target"] is None
    assert rows["a"]["time_to_target"] == 1.0


def test_within_0_is_the_best_itself_up_to_rounding():
    facts = [run(0, [[1.0, -4e6]]), run(1, [[1.0, -4e6 * (1 - 1e-10)]]), run(2, [[1.0, -4e6 * (1 - 1e-8)]])]
    (row,) = summary(facts, {}, within=0.0)
    assert row["successes"] == 2
    (row,) = summary([run(0, [[1.0, 0.0]]), run(1, [[1.0, 1e-3]])], {}, within=0.0)
    assert row["successes"] == 1


def test_a_bound_known_without_a_run_is_used():
    (row,) = summary([run(0, [[1.0, 10.0]])], {("f", 0): 8.0}, within=0.0)
    assert row["gap_to_bound"][1] == pytest.approx(0.2)
    (row,) = summary([run(0, [[1.0, 10.0]])], {}, within=0.0)
    assert row["gap_to_bound"] is None


def test_distances_of_the_best_are_between_seeds():
    facts = [run(seed, [[1.0, 1.0]], best=best) for seed, best in enumerate([(0, 1), (0, 1), (1, 0)])]
    (row,) = summary(facts, {}, within=0.0)
    assert row["distance_of_best"] == pytest.approx(2 / 3)


def test_of_many_reads_as_many_as_are_drawn_are_kept_with_both_ends():
    facts = run(0, [[1.0, 1.0]]) | {"energies": [1.0 + i for i in range(5000)]}
    (row,) = summary([facts], {}, within=0.0)
    gaps = row["read_gaps"]
    assert gaps == sorted(gaps)
    assert len(gaps) < 5000
    assert (gaps[0], gaps[-1]) == (0.0, 4999.0)
    assert np.median(gaps) == pytest.approx(2500, rel=0.01)
