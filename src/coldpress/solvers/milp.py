"""Mixed-integer linear programming: HiGHS branches, tangents of the energy bound (outer approximation).

Where few directions dominate the energy and plans make harms cancel along them, this proves far more than mixtures of
plans (`exact`): the relaxed problem is one small linear programme, and its solution splits few units.
"""

from __future__ import annotations

import numpy as np

from coldpress.problem import Problem
from coldpress.solvers import anneal
from coldpress.solvers._answer import Answer, Progress, start
from coldpress.solvers._convex import Convex, shift, spreads
from coldpress.solvers._moves import polish
from coldpress.solvers._outer import Linear, Outer
from coldpress.solvers._restrict import Part
from coldpress.solvers._root import bound_at_once
from coldpress.solvers._state import Arrays, Floats, Ints, allowed_start, flatten, merge_blocks
from coldpress.solvers.greedy import offer_smallest

_MOST_ENTRIES = 30_000  # joint configurations beyond which HiGHS is too slow to be worth starting
_MARGIN = 1e-6  # taken off every bound for HiGHS' tolerances, in shares of the incumbent's energy
_ROOM = 2e-9  # more room than plans need, so that rounding never puts a bound above one of them
_DIRECTIONS = 40  # eigen-directions of the energy with an epigraph of their own


def solve(problem: Problem, *, seed: int = 0, time_limit: float = 10.0, max_gap: float = 1e-4) -> Answer:
    """Anneal, relax, then solve programmes with ever more tangents until the gap is ``max_gap`` or the time is up.

    Args:
        problem: what to solve; the energy need not be convex.
        seed: of the annealing that finds the first plan.
        time_limit: seconds.
        max_gap: stop when the relative gap is at most this; HiGHS' own tolerances allow no less than about 1e-5.

    Raises:
        BudgetError: the budget cannot be met (proven), or no plan was found in time.
    """
    arrays = flatten(problem)
    anneal.warm_up()
    progress = start(problem, time_limit)
    quick = Progress(problem, 0.2 * time_limit)
    anneal.search(quick, arrays, seed)
    if quick.choice is not None:
        progress.offer(quick.choice)
    else:
        offer_smallest(progress)
    prove(progress, arrays, max_gap)
    return progress.answer("milp")


def prove(progress: Progress, arrays: Arrays, max_gap: float) -> None:
    """Raise the bound of ``progress`` and improve its plan until the gap is ``max_gap`` or the time is up."""
    bound_at_once(progress)
    part = Part.all_of(progress.problem)
    while True:
        if _entries(part) > _MOST_ENTRIES:
            return
        found = _bound_root(progress, arrays, part, max_gap)
        if found is None or progress.gap <= max_gap or progress.left == 0.0:
            return
        outer, linear = found
        smaller = _without_dear(progress, part, linear)
        if sum(smaller.problem.sizes) > 0.95 * sum(part.problem.sizes):
            break
        part = smaller
    _search(progress, arrays, part, outer, linear, max_gap)


def _entries(part: Part) -> int:
    blocks, _ = merge_blocks(part.problem)
    return sum(block.table[0].size for block in blocks if len(block.units) > 1)


def _bound_root(
    progress: Progress, arrays: Arrays, part: Part, max_gap: float, rounds: int = 5
) -> tuple[Outer, Linear] | None:
    """Alternate between the linear relaxation and the shift of the energy that is best for its solution."""
    problem = part.problem
    blocks, room = merge_blocks(problem)
    plain = Convex.of(problem)
    known = None if progress.choice is None else part.own(progress.choice)
    begin = plain.vector(allowed_start(problem, blocks) if known is None else known)
    scale = max(abs(progress.energy) if progress.choice is not None else abs(plain.value(begin)), 1e-9)
    y = begin.copy()
    for block in plain.blocks:
        y[block] = 0.5 * y[block] + 0.5 / (block.stop - block.start + 1)
    spread = spreads(plain, y)
    best: tuple[Outer, Linear] | None = None
    for step in range(rounds):
        energy = shift(plain, spread, sweeps=3 if step == 0 else 6)
        outer = Outer(energy, blocks, room + _ROOM, problem.sizes, scale=scale, directions=_DIRECTIONS)
        outer.touch(begin)
        outer.touch(y)
        linear = _relax(progress, outer)
        if linear is None:
            break
        bound = linear.bound - _MARGIN * scale
        gained = np.inf if best is None else linear.bound - best[1].bound
        if gained > 0:
            best = outer, linear
        progress.raise_bound(bound)
        _offer(progress, arrays, part, plain, linear.y)
        if progress.gap <= max_gap or progress.left == 0.0 or (step and gained < 1e-3 * abs(linear.bound)):
            break
        y = linear.y
        # The saddle point's spread is approached by averaging: the newest counts 1 / (step + 1).
        newest = spreads(plain, y)
        spread = newest if step == 0 else [old + (new - old) / (step + 1) for old, new in zip(spread, newest)]
    return best


def _relax(progress: Progress, outer: Outer) -> Linear | None:
    """Add tangents at the solutions without integrality until the bound hardly moves."""
    last: Linear | None = None
    for _ in range(100):
        linear = outer.relax(progress.left)
        if linear is None:
            break
        still = last is not None and linear.bound < last.bound + 2e-4 * abs(linear.bound)
        last = linear
        if still or not outer.touch(linear.y, linear.held) or progress.left == 0.0:
            break
    return last


def _without_dear(progress: Progress, part: Part, linear: Linear) -> Part:
    """Leave out the options whose reduced cost says that no plan better than the incumbent takes them."""
    known = None if progress.choice is None else part.own(progress.choice)
    if known is None:
        return part
    offsets = part.problem.offsets
    dear = linear.bound + linear.reduced > progress.energy + _MARGIN * abs(progress.energy)
    dear[offsets[:-1] + known] = False
    return part.without([np.where(dear[a:b], np.inf, 0.0) for a, b in zip(offsets, offsets[1:])])


def _search(progress: Progress, arrays: Arrays, part: Part, outer: Outer, linear: Linear, max_gap: float) -> None:
    """Solve the programme again and again, to an ever smaller gap, with tangents at all plans it met."""
    outer.surround(linear.y, max(progress.energy - linear.bound, 0.0) if progress.choice is not None else 0.0)
    outer.demand_integers()
    gap = 0.5
    while progress.left > 0.0 and progress.gap > max_gap:
        gap = max(min(gap, 0.5 * progress.gap), 0.3 * max_gap)
        before = progress.gap
        known = None if progress.choice is None else part.own(progress.choice)
        begin = None if known is None else part.problem.vector(known)
        bound, found = outer.search(progress.left, gap, begin)
        for y in found:
            _offer(progress, arrays, part, outer.energy, y)
        # What was left out, and what the programme's tolerances let through, lies above this.
        progress.raise_bound(min(bound, progress.energy) - _MARGIN * outer.scale)
        if not np.isfinite(bound):
            return
        news = sum(outer.touch(np.round(y)) for y in found[-20:])
        if progress.gap > 0.8 * before:
            if not news and gap <= 0.3 * max_gap:
                return
            gap *= 0.3


def _offer(progress: Progress, arrays: Arrays, part: Part, energy: Convex, y: Floats) -> None:
    """Offer the likeliest plan under ``y``, and what descent makes of it."""
    likeliest: Ints = np.zeros(len(energy.starts) - 1, dtype=np.int64)
    for unit, (a, b) in enumerate(zip(energy.starts, energy.starts[1:])):
        likeliest[unit] = int(np.argmax(np.concatenate([[1.0 - y[a:b].sum()], y[a:b]])))
    choice = part.whole(likeliest)
    if choice.tobytes() in progress.seen:
        return
    progress.seen.add(choice.tobytes())
    progress.offer(choice)
    if all(np.isfinite(cost) for cost in progress.problem.costs_of(choice).values()):
        polished, inside = polish(arrays, choice)
        if inside:
            progress.offer(polished)
