"""Contestants that choose so many of n."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from coldpress.contest.attempt import Attempt, repeat
from coldpress.instances.cardinality import CardinalityProblem
from coldpress.samplers import LowRankAnnealingSampler

COLD = (1e12, 1e12)
"""Inverse temperatures at which no move up is made."""


def play(name: str, problem: CardinalityProblem, seed: int, limit: float) -> Attempt:
    """Choose until the time is up."""
    _compiled()
    attempt = Attempt(limit)
    PLAYERS[name](attempt, problem, seed)
    return attempt


def _diagonal(attempt: Attempt, problem: CardinalityProblem, seed: int) -> None:
    """Those of least energy each alone; once, since nothing is random."""
    del seed
    chosen = problem.least_alone()[None]
    attempt.offer(chosen, problem.energies(chosen))


def _descent(attempt: Attempt, problem: CardinalityProblem, seed: int) -> None:
    """Exchanges that lower the energy, first from what the diagonal chooses, then from random choices."""
    start = problem.least_alone()[None]

    def call(effort: float, call_seed: int) -> None:
        nonlocal start
        found = LowRankAnnealingSampler().sample_low_rank(
            problem.diagonal, problem.factor, problem.cardinality, num_reads=max(1, int(effort)),
            num_sweeps=20, beta_range=COLD, initial_states=start, seed=call_seed, time_limit=max(attempt.left, 1e-3),
        )  # fmt: skip
        attempt.offer(found.record.sample, problem.energies(found.record.sample))
        start = start[:0]

    repeat(attempt, call, 1.0, 1.0, seed)


def _low_rank(attempt: Attempt, problem: CardinalityProblem, seed: int) -> None:
    """Annealing by exchanges, ever slower."""

    def call(effort: float, call_seed: int) -> None:
        found = LowRankAnnealingSampler().sample_low_rank(
            problem.diagonal, problem.factor, problem.cardinality, num_sweeps=int(effort), seed=call_seed
        )
        attempt.offer(found.record.sample, problem.energies(found.record.sample))

    repeat(attempt, call, 20.0, 1.0, seed)


PLAYERS: dict[str, Callable[[Attempt, CardinalityProblem, int], None]] = {
    "diagonal": _diagonal,
    "descent": _descent,
    "low-rank": _low_rank,
}


@functools.cache
def _compiled() -> None:
    """Anneal something tiny, so that what is compiled at first use is there."""
    LowRankAnnealingSampler().sample_low_rank(np.ones(6), np.ones((6, 2)), 3, num_sweeps=2, seed=0)
