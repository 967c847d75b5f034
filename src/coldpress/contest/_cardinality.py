"""Contestants that choose so many of n."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import dimod
import numpy as np
from numpy.typing import NDArray

from coldpress.contest.attempt import Attempt, repeat
from coldpress.instances.cardinality import CardinalityProblem
from coldpress.samplers import LowRankAnnealingSampler
from coldpress.selection import Selection
from coldpress.solvers.genetic import parents
from coldpress.solvers.select import select

COLD = (1e12, 1e12)
"""Inverse temperatures at which no move up is made."""
GENERATION, TOURNAMENT = 64, 3
"""Of the genetic algorithm, as of the solver; of random choices so many are drawn at once."""
MANY = 40
"""Annealing runs, each twice as long as the last: more than any time allows."""


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
        began = attempt.seconds
        found = LowRankAnnealingSampler().sample_low_rank(
            problem.diagonal, problem.factor, problem.cardinality, num_reads=max(1, int(effort)),
            num_sweeps=20, beta_range=COLD, initial_states=start, seed=call_seed, time_limit=max(attempt.left, 1e-3),
        )  # fmt: skip
        _offer(attempt, problem, found, began)
        start = start[:0]

    repeat(attempt, call, 1.0, 1.0, seed)


def _low_rank(attempt: Attempt, problem: CardinalityProblem, seed: int) -> None:
    """Annealing by exchanges, ever slower."""

    def call(effort: float, call_seed: int) -> None:
        began = attempt.seconds
        found = LowRankAnnealingSampler().sample_low_rank(
            problem.diagonal, problem.factor, problem.cardinality, num_sweeps=int(effort), seed=call_seed
        )
        _offer(attempt, problem, found, began)

    repeat(attempt, call, 20.0, 1.0, seed)


def _offer(attempt: Attempt, problem: CardinalityProblem, found: dimod.SampleSet, began: float) -> None:
    states, met = found.record.sample, found.info["improvements"]
    attempt.offer(states, problem.energies(states), None, [(began + seconds, energy) for seconds, energy in met])


def _select(attempt: Attempt, problem: CardinalityProblem, seed: int) -> None:
    """Relaxed, rounded and annealed, by `coldpress.select`, once; what it does before its own clock starts counts."""
    found = select(_selection(problem), seed=seed, time_limit=attempt.limit, runs=MANY)
    before = max(attempt.seconds - found.seconds, 0.0)
    for seconds, energy in found.trace:
        if seconds + before <= attempt.limit and energy < attempt.energy:
            attempt.trace.append((seconds + before, energy))
    attempt.bound = found.lower_bound
    attempt.energies = [energy for _, energy in attempt.trace[-1:]]
    if attempt.energy <= found.energy:  # else it came too late, and earlier selections are not told
        attempt.best = found.chosen.astype(np.int64)
        attempt.states = [attempt.best]


def _selection(problem: CardinalityProblem) -> Selection:
    """The same problem, as `coldpress.select` takes it: its quadratic term is halved."""
    return Selection.of_size(problem.diagonal, math.sqrt(2.0) * problem.factor, problem.cardinality)


def _random(attempt: Attempt, problem: CardinalityProblem, seed: int) -> None:
    """Choices at random."""
    rng = np.random.default_rng(seed)

    def call(effort: float, call_seed: int) -> None:
        del call_seed
        for _ in range(int(effort)):
            chosen = _most(rng.random((GENERATION, len(problem.diagonal))), problem.cardinality)
            attempt.offer(chosen, problem.energies(chosen))

    repeat(attempt, call, 1.0, 1.0, seed)


def _genetic(attempt: Attempt, problem: CardinalityProblem, seed: int) -> None:
    """As the solver `genetic`: a child has what both parents chose, some of what one did, and an exchange or so."""
    rng, n = np.random.default_rng(seed), len(problem.diagonal)
    plans = _most(rng.random((GENERATION, n)), problem.cardinality)
    values = problem.energies(plans)
    attempt.offer(plans, values)

    def call(effort: float, call_seed: int) -> None:
        nonlocal plans, values
        del call_seed
        for _ in range(int(effort)):
            fathers, mothers = (plans[parents(values, GENERATION, TOURNAMENT, rng)] for _ in range(2))
            wish = fathers + mothers + rng.random((GENERATION, n))
            wish += rng.choice((-3.0, 0.0, 3.0), size=wish.shape, p=(0.5 / n, 1.0 - 1.0 / n, 0.5 / n))
            children = _most(wish, problem.cardinality)
            found = problem.energies(children)
            attempt.offer(children, found)
            best = int(values.argmin())
            plans, values = np.concatenate([plans[best][None], children]), np.append(values[best], found)

    repeat(attempt, call, 1.0, 1.0, seed)


def _most(wish: NDArray[np.float64], count: int) -> NDArray[np.int8]:
    """So many ones in each row, where ``wish`` (rows, n) is highest."""
    chosen = np.zeros(wish.shape, np.int8)
    np.put_along_axis(chosen, np.argpartition(-wish, count - 1, axis=1)[:, :count], 1, axis=1)
    return chosen


PLAYERS: dict[str, Callable[[Attempt, CardinalityProblem, int], None]] = {
    "diagonal": _diagonal,
    "descent": _descent,
    "low-rank": _low_rank,
    "select": _select,
    "random": _random,
    "genetic": _genetic,
}


@functools.cache
def _compiled() -> None:
    """Anneal something tiny, so that what is compiled at first use is there."""
    LowRankAnnealingSampler().sample_low_rank(np.ones(6), np.ones((6, 2)), 3, num_sweeps=2, seed=0)
    rng = np.random.default_rng(0)
    select(Selection.of_size(rng.uniform(size=40), rng.normal(size=(40, 3)), 20), seed=0, time_limit=1.0, runs=1)
