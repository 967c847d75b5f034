"""Branch and bound over options, bounded by mixtures of plans (`_relaxation`): proves how good the best plan is.

Separable problems with one limit are solved by dynamic programming instead (`_dynamic`). Options that no better plan
can take are left out before branching: what remains is smaller, shifts further and relaxes tighter. Large problems
whose costs tie no units begin with `milp`.
"""

from __future__ import annotations

import heapq
import itertools

import numpy as np

from coldpress.problem import Problem
from coldpress.solvers import milp
from coldpress.solvers._answer import Answer, Progress
from coldpress.solvers._begin import begin_annealed
from coldpress.solvers._convex import Convex
from coldpress.solvers._dynamic import prove_separable
from coldpress.solvers._relaxation import Atoms, Relaxed, relax
from coldpress.solvers._restrict import Part
from coldpress.solvers._root import Root, RootSearch, free, round_mixture
from coldpress.solvers._state import Arrays, Floats, allowed_start, flatten, merge_blocks

Barred = list[Floats]
_MILP_GAP = 1e-5  # HiGHS' tolerances allow no less
_FEWER = 0.8  # of the options: what is barred is worth another root
_ROUNDED = 8  # of so many nodes one is rounded to plans
_MILP_SHARE = 0.7  # of the time, before branch and bound over mixtures


def solve(problem: Problem, *, seed: int = 0, time_limit: float = 10.0, max_gap: float = 1e-7) -> Answer:
    """Find the plan of least energy and prove it, or stop at the time limit with a bound.

    Args:
        problem: what to solve; the energy need not be convex.
        seed: of the annealing that finds the first plan.
        time_limit: seconds.
        max_gap: stop when the relative gap is at most this.

    Raises:
        BudgetError: the budget cannot be met (proven), or no plan was found in time.
    """
    progress, arrays = begin_annealed(problem, seed, time_limit, share=0.2)
    prove(progress, arrays, max_gap)
    return progress.answer("exact")


def plain_bound(problem: Problem) -> float:
    """A bound that needs no search: every unit alone at its best, every pair of units at its best."""
    energy, starts = problem.energy, problem.offsets[:-1]
    alone = np.minimum.reduceat(energy.linear + 0.5 * np.diag(energy.quadratic), starts).sum()
    pairs = np.minimum.reduceat(np.minimum.reduceat(energy.quadratic, starts, axis=0), starts, axis=1)
    np.fill_diagonal(pairs, 0.0)
    bound = float(energy.constant + alone + 0.5 * pairs.sum())
    if energy.is_convex:  # then the quadratic part is never negative
        bound = max(bound, float(energy.constant + np.minimum.reduceat(energy.linear, starts).sum()))
    return bound


def prove(progress: Progress, arrays: Arrays, max_gap: float) -> None:
    """Raise the bound of ``progress`` and improve its plan until the gap is ``max_gap`` or the time is up."""
    progress.raise_bound(plain_bound(progress.problem))
    if prove_separable(progress):
        return
    part = Part.all_of(progress.problem)
    if milp.suits(progress.problem):
        inner = part.progress(progress)
        inner.time_limit = progress.seconds + _MILP_SHARE * progress.left
        part, whole = milp.prove(inner, arrays, max(max_gap, _MILP_GAP)), part
        whole.report(inner, progress)
    while progress.gap > max_gap and progress.left > 0.0 and not progress.impossible:
        smaller = _narrowed(part, progress, max_gap)
        if smaller is None:
            return
        part = smaller


def _narrowed(part: Part, progress: Progress, max_gap: float) -> Part | None:
    """The part without options that no better plan takes; branches, and returns None, where few can be told."""
    problem, inner = part.problem, part.progress(progress)
    arrays = flatten(problem)
    begin = allowed_start(problem, merge_blocks(problem)[0]) if inner.choice is None else inner.choice
    search = RootSearch(inner, arrays, begin, max_gap)
    smaller: Part | None = None
    for stage in search.stages:
        stage()
        if search.done:
            break
        without = part.without(_bar_dear(inner, search.root))
        if sum(without.problem.sizes) <= _FEWER * sum(problem.sizes):
            smaller = without
            break
    else:
        _branch_and_bound(inner, arrays, search.root, max_gap)
    part.report(inner, progress)
    return smaller


def _bar_dear(progress: Progress, root: Root) -> Barred:
    """Bar the options that no plan better than the incumbent takes, by the root's gradient and prices."""
    barred = free(progress)
    if progress.choice is None:
        return barred
    relaxed, oracle, energy = root.relaxed, root.oracle, root.energy
    gradient, prices, y, offsets = relaxed.gradient, relaxed.prices, relaxed.y, progress.problem.offsets
    base = float(energy.constant - 0.5 * y @ (gradient - energy.linear)) - float(prices @ oracle.room)
    unary = energy.options(gradient)
    cutoff = progress.energy + 1e-9 * abs(progress.energy)
    for unit, bar in enumerate(barred):
        for option in range(len(bar)):
            if option == progress.choice[unit] or progress.left == 0.0:
                continue
            fixed, begin = unary.copy(), int(offsets[unit])
            fixed[begin : begin + len(bar)] = np.inf
            fixed[begin + option] = unary[begin + option]
            least, _ = oracle.cheapest(fixed, prices)
            if base + least > cutoff:
                bar[option] = np.inf
    return barred


def _branch_and_bound(progress: Progress, arrays: Arrays, root: Root, max_gap: float) -> None:
    count, rounded = itertools.count(), itertools.count()
    opened: list[tuple[float, int, Barred, Relaxed]] = [(root.relaxed.bound, next(count), free(progress), root.relaxed)]
    while opened and progress.left > 0.0:
        bound, _, barred, relaxed = heapq.heappop(opened)
        progress.raise_bound(bound)
        if progress.gap <= max_gap:
            return
        for child in _branch(root.energy, barred, relaxed):
            found = _bound_child(progress, root, child, relaxed.atoms, max_gap)
            if found is None or found.bound >= _cutoff(progress, max_gap):
                continue
            if not _undecided(child):  # one plan: nothing is left to branch on
                progress.offer(found.atoms.choices[0])
                continue
            if next(rounded) % _ROUNDED == 0:  # descent costs more than the bound does
                round_mixture(progress, arrays, root.energy, found)
            heapq.heappush(opened, (max(found.bound, bound), next(count), child, found))
    # What was cut off lies above the last cutoff, what is open above the first of the heap.
    progress.raise_bound(min(_cutoff(progress, max_gap), opened[0][0] if opened else np.inf))


def _cutoff(progress: Progress, max_gap: float) -> float:
    return progress.energy - 0.5 * max_gap * abs(progress.energy) if progress.choice is not None else np.inf


def _undecided(barred: Barred) -> bool:
    return any((bar == 0).sum() > 1 for bar in barred)


def _branch(energy: Convex, barred: Barred, relaxed: Relaxed) -> list[Barred]:
    """Two children: the options of the unit whose spread costs most, split in order at the mixture's middle."""
    best, unit, cut = -1.0, -1, 0
    for u, bar in enumerate(barred):
        allowed = np.flatnonzero(bar == 0)
        if len(allowed) < 2:
            continue
        a, b = energy.starts[u], energy.starts[u + 1]
        part = relaxed.y[a:b]
        share = np.concatenate([[max(1.0 - part.sum(), 0.0)], part])[allowed]
        below = np.cumsum(share / share.sum())[:-1]
        at = int(np.argmin(np.abs(below - 0.5)))
        block = energy.quadratic[a:b, a:b]
        convexity = float(np.diag(block) @ part - part @ block @ part)
        score = min(below[at], 1.0 - below[at]) * 1e-9 + max(convexity, 0.0)
        if score > best:
            best, unit, cut = score, u, int(allowed[at])
    children = []
    for low in (True, False):
        bar = barred[unit].copy()
        if low:
            bar[cut + 1 :] = np.inf
        else:
            bar[: cut + 1] = np.inf
        children.append([bar if u == unit else other for u, other in enumerate(barred)])
    return children


def _bound_child(progress: Progress, root: Root, barred: Barred, atoms: Atoms, max_gap: float) -> Relaxed | None:
    """The relaxed solution of a child, or None if none of its plans is allowed."""
    allowed = np.ones(len(atoms), dtype=bool)
    for u, bar in enumerate(barred):
        allowed &= bar[atoms.choices[:, u]] == 0
    if allowed.any():
        begin = atoms.take(allowed)
    else:
        least, choice = root.oracle.cheapest(np.concatenate(barred), np.ones(len(root.oracle.room)))
        if not np.isfinite(least):
            return None
        begin = root.oracle.atom(root.energy, choice)
    found = relax(
        root.energy, root.oracle, begin, barred, penalty=root.penalty, cutoff=_cutoff(progress, max_gap),
        tolerance=max(2e-4, 0.1 * max_gap) if _undecided(barred) else 0.0,
        deadline=progress.started + progress.time_limit,
    )  # fmt: skip
    return found if found.bound < np.inf else None
