"""One-hot simulated annealing: moves keep one option per unit and pay for leaving the budget (Kirkpatrick 1983)."""

from __future__ import annotations

import numpy as np

from coldpress.problem import Problem
from coldpress.solvers._answer import Answer, Progress, start
from coldpress.solvers._last import offer_smallest
from coldpress.solvers._master import best_mixture
from coldpress.solvers._moves import anneal as run_sweeps
from coldpress.solvers._moves import generator, polish, typical_move
from coldpress.solvers._state import Arrays, Ints, allowed_start, flatten, merge_blocks

_CHUNK = 64  # sweeps between looks at the clock
_HOTTEST = 3.0  # first temperature, in typical changes of the energy by one move
_RATE = 0.1  # largest relative change of a limit's price in a sweep


def solve(
    problem: Problem,
    *,
    seed: int = 0,
    time_limit: float = 10.0,
    num_reads: int = 10,
    num_sweeps: int | None = None,
    coldest: float = 1e-3,
) -> Answer:
    """Anneal ``num_reads`` replicas, then descend by one- and two-unit moves from each replica's best.

    Args:
        problem: what to solve.
        seed: same seed, same plan, as long as the sweeps end before the time does.
        time_limit: seconds; replicas not begun by then are left out.
        num_reads: independent replicas.
        num_sweeps: sweeps of each, one sweep being as many tried moves as there are options; by default from the size.
        coldest: last temperature, in typical changes of the energy by one move; the first is ``_HOTTEST`` of them.

    Raises:
        BudgetError: no plan inside the budget was found.
    """
    arrays = flatten(problem)
    warm_up()
    progress = start(problem, time_limit)
    search(progress, arrays, seed, num_reads, num_sweeps, coldest)
    if progress.choice is None:
        offer_smallest(progress)
    return progress.answer("anneal")


def search(
    progress: Progress,
    arrays: Arrays,
    seed: int,
    num_reads: int = 10,
    num_sweeps: int | None = None,
    coldest: float = 1e-3,
) -> None:
    """Offer the best of ``num_reads`` replicas to ``progress``."""
    problem = progress.problem
    begin = allowed_start(problem, merge_blocks(problem)[0])
    options = len(arrays.linear)
    sweeps = num_sweeps or int(np.clip(300_000 // max(options, 1), 200, 20 * options + 200))
    harm, weight = typical_move(arrays, begin, generator(seed), 2000)
    harm = max(harm, 1e-300)
    temperatures = harm * np.geomspace(_HOTTEST, coldest, sweeps)
    for read in range(num_reads):
        if read and progress.left == 0.0:
            return
        random, choice, best = generator(seed, read + 1), begin.copy(), begin.copy()
        price = np.full(len(arrays.room), harm / weight if weight > 0 else 1.0)
        energy = np.inf
        for at in range(0, sweeps, _CHUNK):
            part = temperatures[at : at + _CHUNK]
            energy = run_sweeps(arrays, choice, part, price, _RATE, best, energy, random)
            if progress.left == 0.0:
                break
        polished, inside = polish(arrays, best if np.isfinite(energy) else choice)
        if inside:
            progress.offer(polished)


def warm_up() -> None:
    """Compile the loops (or load them from the cache), so that time limits measure solving."""
    global _warm
    if not _warm:
        arrays = Arrays(
            np.eye(2), np.zeros(2), np.array([0, 2]), np.array([0]), np.zeros((2, 1)), np.array([0, 1]),
            np.array([0]), np.array([1]), np.array([1.0]),
        )  # fmt: skip
        choice: Ints = np.zeros(1, dtype=np.int64)
        typical_move(arrays, choice, generator(0), 1)
        run_sweeps(arrays, choice, np.ones(1), np.ones(1), 0.1, choice.copy(), np.inf, generator(0))
        polish(arrays, choice)
        best_mixture(np.eye(2), np.zeros(2), np.zeros((2, 1)), np.ones(1), 1.0)
        _warm = True


_warm = False
