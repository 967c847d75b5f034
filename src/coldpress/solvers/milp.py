"""Mixed-integer linear programming: HiGHS branches, tangents of the energy bound (outer approximation).

Where costs tie no units together the relaxed problem is a small linear programme, and its reduced costs leave out most
options within a fraction of a second; joint configurations of many units are dearer here than in `exact`.
"""

from __future__ import annotations

import itertools

import numpy as np

from coldpress.problem import Problem
from coldpress.solvers._answer import Answer, Progress
from coldpress.solvers._begin import begin_annealed
from coldpress.solvers._convex import Convex, shift, spreads
from coldpress.solvers._moves import polish
from coldpress.solvers._outer import Linear, Outer
from coldpress.solvers._restrict import Part
from coldpress.solvers._root import bound_at_once
from coldpress.solvers._state import Arrays, Floats, Ints, allowed_start, merge_blocks

_MOST_ENTRIES = 30_000  # joint configurations beyond which HiGHS is too slow to be worth starting
_MANY = 100  # options below which branch and bound over mixtures is as fast
_MARGIN = 1e-6  # taken off every bound for HiGHS' tolerances, in shares of the incumbent's energy
_ROOM = 2e-9  # more room than plans need, so that rounding never puts a bound above one of them
_DIRECTIONS = 24  # eigen-directions of the energy with an epigraph of their own


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
    progress, arrays = begin_annealed(problem, seed, time_limit, share=0.2)
    prove(progress, arrays, max_gap)
    return progress.answer("milp")


def prove(progress: Progress, arrays: Arrays, max_gap: float) -> Part:
    """Raise the bound of ``progress`` and improve its plan until the gap is ``max_gap`` or the time is up.

    Returns:
        The part of the problem outside of which no better plan lies.
    """
    bound_at_once(progress)
    share: Floats | None = None
    part = Part.all_of(progress.problem)
    while True:
        if _entries(part) > _MOST_ENTRIES:
            return part
        found = _bound_root(progress, arrays, part, share, max_gap)
        if found is None or progress.gap <= max_gap or progress.left == 0.0:
            return part
        outer, linear, mean = found
        if not linear.tight:
            return part
        share = np.zeros(int(progress.problem.offsets[-1]))
        share[part.places] = mean
        smaller = _without_dear(progress, part, linear)
        if sum(smaller.problem.sizes) > 0.95 * sum(part.problem.sizes):
            break
        part = smaller
    _search(progress, arrays, part, outer, linear, max_gap)
    return part


def suits(problem: Problem) -> bool:
    """Whether this is where it was measured to prove more than `exact`: many options, no cost that ties units."""
    return sum(problem.sizes) >= _MANY and _entries(Part.all_of(problem)) == 0


def _entries(part: Part) -> int:
    blocks, _ = merge_blocks(part.problem)
    return sum(block.table[0].size for block in blocks if len(block.units) > 1)


def _bound_root(
    progress: Progress, arrays: Arrays, part: Part, share: Floats | None, max_gap: float, rounds: int = 5
) -> tuple[Outer, Linear, Floats] | None:
    """Alternate between the linear relaxation and the shift of the energy that is best for its solution.

    ``share`` is the mean relaxed solution of a larger part, over all options of the whole problem, if there is one.
    Returned are the best programme, its solution, and the mean of all solutions over the part's options.
    """
    problem = part.problem
    blocks, room = merge_blocks(problem)
    plain = Convex.of(problem)
    known = None if progress.choice is None else part.own(progress.choice)
    begin = plain.vector(allowed_start(problem, blocks) if known is None else known)
    scale = max(abs(progress.energy) if progress.choice is not None else abs(plain.value(begin)), 1e-9)
    if share is None:
        y = begin.copy()
        for block in plain.blocks:
            y[block] = 0.5 * y[block] + 0.5 / (block.stop - block.start + 1)
    else:
        mean = share[part.places]
        y = np.delete(
            mean / np.repeat(np.maximum(np.add.reduceat(mean, problem.offsets[:-1]), 1e-9), problem.sizes),
            problem.offsets[:-1],
        )
    spread = spreads(plain, y)
    best: tuple[Outer, Linear] | None = None
    total, loose = np.zeros(sum(problem.sizes)), 0
    for step in range(rounds):
        energy = shift(plain, spread, sweeps=3 if step == 0 else 6)
        outer = Outer(energy, blocks, room + _ROOM, problem.sizes, scale=scale, directions=_DIRECTIONS)
        outer.touch(begin)
        outer.touch(y)
        # The first shift is a guess, made only to see where the solution lies.
        linear = _relax(progress, outer, 10 if step == 0 and share is None else 100)
        if linear is None:
            if outer.impossible and progress.choice is None:
                progress.raise_bound(np.inf)
            break
        bound = linear.bound - _MARGIN * scale
        gained = np.inf if best is None else linear.bound - best[1].bound
        if gained > 0:
            best = outer, linear
        progress.raise_bound(bound)
        _offer(progress, arrays, part, plain, linear.y)
        if progress.gap <= max_gap or progress.left == 0.0:
            break
        y = linear.y
        total = total + outer.options(y)
        loose += not linear.tight
        if loose > 1:
            break
        if step and linear.tight and gained < max(0.02 * (progress.energy - linear.bound), 1e-3 * abs(linear.bound)):
            break
        # The saddle point's spread is approached by averaging: the newest counts 1 / (step + 1).
        newest = spreads(plain, y)
        spread = newest if step == 0 else [old + (new - old) / (step + 1) for old, new in zip(spread, newest)]
    return None if best is None else (*best, total)


def _relax(progress: Progress, outer: Outer, rounds: int) -> Linear | None:
    """Add tangents at the solutions without integrality until the bound hardly moves."""
    last: Linear | None = None
    deadline = progress.seconds + 0.15 * progress.left
    for _ in range(rounds):
        linear = outer.relax(progress.left)
        if linear is None:
            break
        still = last is not None and linear.bound < last.bound + 2e-4 * abs(linear.bound)
        last = linear
        if still or not outer.touch(linear.y, linear.held):
            break
        if progress.seconds > deadline:
            return last._replace(tight=False)
    return last


def _without_dear(progress: Progress, part: Part, linear: Linear) -> Part:
    """Leave out the options whose reduced cost says that no plan better than the incumbent takes them."""
    known = None if progress.choice is None else part.own(progress.choice)
    if known is None:
        return part
    offsets = part.problem.offsets
    dear = linear.bound + linear.reduced > progress.energy + _MARGIN * abs(progress.energy)
    dear[offsets[:-1] + known] = False
    return part.without([np.where(dear[a:b], np.inf, 0.0) for a, b in itertools.pairwise(offsets)])


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
    if progress.problem.allowed(choice):
        polished, inside = polish(arrays, choice)
        if inside:
            progress.offer(polished)
