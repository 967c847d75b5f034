"""Which of many single units go: relaxed, rounded, annealed where it matters, with a certified gap.

The relaxation is solved to high accuracy by an interior point method, which leaves about as many fractions as the
factor has rank. Those, and the units next to them in price, are annealed; exchanges over all units end it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from coldpress.errors import BudgetError
from coldpress.selection import Bools, Selection
from coldpress.solvers._answer import check_time_limit, relative_gap
from coldpress.solvers._core import search_core
from coldpress.solvers._heat import warm_up
from coldpress.solvers._interior import relax
from coldpress.solvers._rounding import descend, round_down

_RELAXING, _ANNEALING = 0.6, 0.95
"""Shares of the time after which the relaxation, and the annealing, must have ended."""


@dataclass(frozen=True, eq=False)
class Selected:
    """A selection and what is known of it.

    Attributes:
        chosen: which units go, ``(n,)``.
        energy: of ``chosen``.
        lower_bound: no feasible selection has less energy.
        gap: ``(energy - lower_bound) / |energy|``, at least 0.
        seconds: wall time, without the first call's compilation.
        trace: (seconds, energy) whenever a better selection was met.
    """

    chosen: Bools
    energy: float
    lower_bound: float
    gap: float
    seconds: float
    trace: tuple[tuple[float, float], ...]


def select(problem: Selection, *, seed: int = 0, time_limit: float = 10.0, runs: int = 8) -> Selected:
    """Choose the units that go.

    Args:
        problem: energy, budgets and groups.
        seed: same seed, same selection, as long as the runs end before the time does.
        time_limit: seconds; the relaxation's first steps are made in any case.
        runs: annealing runs after the first, each twice as long as the one before.

    Raises:
        BudgetError: the budgets cannot be met, or no selection was found that meets them together.
        PlanError: the time limit is not above 0.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = select(Selection.of_size(rng.uniform(size=40), rng.normal(size=(40, 3)), 20), seed=0)
        >>> int(found.chosen.sum()), found.lower_bound <= found.energy
        (20, True)
    """
    check_time_limit(time_limit)
    _check_reachable(problem)
    warm_up()
    began = time.perf_counter()
    free = problem.undecided()
    chosen = ~free & (problem.most > 0)[problem.groups]
    if not free.any():
        energy = problem.energy_of(chosen)
        return Selected(chosen, energy, energy, 0.0, time.perf_counter() - began, ((0.0, energy),))
    part, rest = problem.among(free, chosen)
    relaxed = relax(part, began + _RELAXING * time_limit)
    start = round_down(part, relaxed)
    if start is None:
        raise BudgetError(
            "no selection was found that frees enough for all budgets together; whether there is one is unknown: ask "
            "for less of one"
        )
    found, moments = search_core(part, relaxed, start, seed=seed, runs=runs, deadline=began + _ANNEALING * time_limit)
    found = descend(part, found, began + time_limit)
    chosen[free] = found
    energy = problem.energy_of(chosen)
    trace = [*((at - began, value + rest) for at, value in moments), (time.perf_counter() - began, energy)]
    bound = min(relaxed.bound + rest, energy)
    return Selected(chosen, energy, bound, relative_gap(energy, bound), time.perf_counter() - began, tuple(trace))


def _check_reachable(problem: Selection) -> None:
    """Raise BudgetError where a budget asks for more than all groups together can free of it."""
    order = np.argsort(problem.groups, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(problem.groups))])
    for b, (gain, need) in enumerate(zip(problem.gains, problem.needs)):
        parts = (order[start:end] for start, end in pairwise(starts))
        most = sum(float(np.sort(gain[part])[::-1][:count].sum()) for part, count in zip(parts, problem.most))
        if most < need * (1 - 1e-9):
            raise BudgetError(f"budget {b} asks to free {need:.6g}, and at most {most:.6g} can be; ask for less", True)
