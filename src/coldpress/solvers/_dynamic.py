"""Dynamic programming for separable problems with one limit: the multiple-choice knapsack, solved to the end.

Units are added one after another; of the partial plans only those are kept that no other beats in both energy and cost
and whose Lagrangian bound is below the best plan known (Dyer, Riha and Walker 1995).
"""

from __future__ import annotations

import itertools
import math
import time

import numpy as np

from coldpress.solvers._answer import Progress
from coldpress.solvers._state import Floats, Ints, merge_blocks

_MOST_STATES = 2_000_000


def prove_separable(progress: Progress) -> bool:
    """Solve a separable problem exactly and raise the bound to the optimum; False where this does not apply.

    It applies when no energy ties two units, there is one limit, and its cost is a sum over units.
    """
    problem = progress.problem
    blocks, room = merge_blocks(problem)
    offsets = problem.offsets
    units = np.repeat(np.arange(len(problem.sizes)), problem.sizes)
    tied = (problem.energy.quadratic != 0) & (units[:, None] != units[None, :])
    if len(room) != 1 or any(len(block.units) > 1 for block in blocks) or tied.any() or progress.choice is None:
        return False
    harm = problem.energy.linear + 0.5 * np.diag(problem.energy.quadratic)
    share = np.zeros(len(harm))
    for block in blocks:
        unit = block.units[0]
        share[offsets[unit] : offsets[unit + 1]] = block.table[0]
    known, deadline = progress.energy - problem.energy.constant, time.perf_counter() + progress.left
    choice = best_within(harm, share, offsets, float(room[0]), known, deadline)
    if choice is None:
        return False
    progress.offer(choice)
    progress.raise_bound(progress.energy)
    return True


def cheap_enough(harm: Floats, share: Floats, offsets: Ints, room: float) -> Ints:
    """A choice of little harm within ``room``, by the least price that brings it there; the cheapest if none does.

    Args:
        harm: of each option, ``(options,)``.
        share: of the limit that each option takes, ``(options,)``; +inf where forbidden.
        offsets: where each unit's options begin, ``(units + 1,)``.
        room: what the shares may sum to.
    """
    allowed = np.isfinite(share)

    def at(price: float) -> Ints:
        weighed = np.where(allowed, harm + price * np.where(allowed, share, 0.0), math.inf)
        return np.array([weighed[a:b].argmin() for a, b in itertools.pairwise(offsets)], dtype=np.int64)

    def fits(choice: Ints) -> bool:
        return bool(share[choice + offsets[:-1]].sum() <= room)

    low, high = 0.0, 1.0
    if fits(at(low)):
        return at(low)
    while not fits(at(high)):
        low, high = high, 4.0 * high
        if high > 1e15:
            return np.array([share[a:b].argmin() for a, b in itertools.pairwise(offsets)], dtype=np.int64)
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if fits(at(middle)) else (middle, high)
    return at(high)


def best_within(
    harm: Floats, share: Floats, offsets: Ints, room: float, known: float, deadline: float = math.inf
) -> Ints | None:
    """The choice of least harm within ``room``.

    Args:
        harm, share, offsets, room: see `cheap_enough`.
        known: harm of a choice within it.
        deadline: give up at this `time.perf_counter()`.

    Returns:
        Options, ``(units,)``; None when there are too many states, too little time, or none as good as ``known``.
    """
    starts, price = offsets[:-1], _price(harm, share, offsets, room)
    rest = np.append(np.cumsum(np.minimum.reduceat(harm + price * share, starts)[::-1])[::-1], 0.0)
    cheapest = np.append(np.cumsum(np.minimum.reduceat(share, starts)[::-1])[::-1], 0.0)
    cutoff = known + 1e-9 * abs(known)
    energy, cost = np.zeros(1), np.zeros(1)
    steps: list[tuple[Ints, Ints]] = []
    for unit, (a, b) in enumerate(itertools.pairwise(offsets)):
        grown = (energy[:, None] + harm[a:b]).ravel()
        dearer = (cost[:, None] + share[a:b]).ravel()
        bound = grown + rest[unit + 1] + price * (dearer - room)
        kept = np.flatnonzero((dearer + cheapest[unit + 1] <= room) & (bound <= cutoff))
        kept = kept[np.lexsort((grown[kept], dearer[kept]))]
        if len(kept):
            lowest = np.minimum.accumulate(grown[kept])
            kept = kept[np.concatenate([[True], grown[kept][1:] < lowest[:-1]])]
        if len(kept) == 0 or len(kept) > _MOST_STATES or time.perf_counter() > deadline:
            return None
        energy, cost = grown[kept], dearer[kept]
        steps.append((kept // (b - a), kept % (b - a)))
    choice, state = np.zeros(len(starts), dtype=np.int64), int(np.argmin(energy))
    for unit in reversed(range(len(starts))):
        parents, options = steps[unit]
        choice[unit], state = options[state], int(parents[state])
    return choice


def _price(harm: Floats, share: Floats, offsets: Ints, room: float) -> float:
    """The price of the limit with the highest Lagrangian bound, by golden section on this concave function."""

    def bound(price: float) -> float:
        return float(np.minimum.reduceat(harm + price * share, offsets[:-1]).sum()) - price * room

    low, high = 0.0, 1.0
    while bound(2.0 * high) > bound(high) and high < 1e12:
        high *= 2.0
    high *= 2.0
    for _ in range(120):
        left, right = low + 0.382 * (high - low), low + 0.618 * (high - low)
        if bound(left) < bound(right):
            low = left
        else:
            high = right
    return 0.5 * (low + high)
