"""Each unit on its own: what a problem would be if neither energy nor cost tied units, by dynamic programming.

The comparator that ignores couplings. Its plans are judged by the true energy and costs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np

from coldpress.problem import Problem
from coldpress.solvers._answer import Answer
from coldpress.solvers._begin import begin, brought_inside
from coldpress.solvers._dynamic import best_within, cheap_enough, prove_separable
from coldpress.solvers._last import offer_smallest
from coldpress.solvers._state import Floats, Ints, allowed_start, merge_blocks


def solve(problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> Answer:
    """Solve the problem without its couplings, limit by limit, bring the plans inside by single moves, keep the best.

    What a unit costs is what its option changes where all others are kept. Deterministic, so ``seed`` changes nothing.
    Where nothing ties units and there is one limit the plan is optimal, and proven so.

    Raises:
        BudgetError: no plan inside the budget was found.
    """
    del seed
    progress, arrays = begin(problem, time_limit)
    for choice in _plans(problem, time.perf_counter() + progress.left):
        if brought_inside(problem, arrays, choice):
            progress.offer(choice)
    if progress.choice is None:
        offer_smallest(progress)
    prove_separable(progress)
    return progress.answer("separable")


def _plans(problem: Problem, deadline: float) -> Iterator[Ints]:
    """For each limit alone the plan of least harm within it, as if no units were tied; one plan without limits."""
    harm = problem.energy.linear + 0.5 * np.diag(problem.energy.quadratic)
    blocks, _ = merge_blocks(problem)
    kept = allowed_start(problem, blocks)
    if not problem.allowed(kept):
        return
    shares, rooms = _shares(problem, kept)
    offsets = problem.offsets
    if not problem.limits:
        yield cheap_enough(harm, shares[0], offsets, np.inf)
    for share, room in zip(shares, rooms):
        quick = cheap_enough(harm, share, offsets, room)
        known = float(harm[quick + offsets[:-1]].sum())
        best = best_within(harm, share, offsets, room, known, deadline)
        yield quick if best is None else best


def _shares(problem: Problem, kept: Ints) -> tuple[Floats, Floats]:
    """What each option adds to each limit where all other units are as ``kept``, (limits, options); the room for it.

    In shares of the limits; +inf where an option is forbidden beside what is kept.
    """
    blocks, room = merge_blocks(problem)
    shares = np.zeros((max(len(room), 1), sum(problem.sizes)))
    for units, table in blocks:
        at = tuple(kept[list(units)])
        base = table[(slice(None), *at)]
        if len(room):
            room = room - base
        for axis, unit in enumerate(units):
            along = table[(slice(None), *at[:axis], slice(None), *at[axis + 1 :])]
            shares[:, problem.offsets[unit] : problem.offsets[unit + 1]] += along - base[:, None]
    return shares, room
