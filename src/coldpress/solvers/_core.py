"""Annealing of the units about which the relaxation is undecided: its fractions, and those whose price is near zero.

All others stay as the relaxation has them. What is left is small and dense, a few times the rank, and a move costs a
few hundred additions however many units there are (the core of a knapsack problem: E. Balas and E. Zemel, 1980).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from coldpress.selection import Bools, Floats, Ints, Selection
from coldpress.solvers._heat import NOISE, anneal
from coldpress.solvers._interior import Relaxed

SIZES = (2.0, 3.0, 4.0, 6.0, 8.0)
"""Cores that are tried, in fractions of the relaxation (as many as its rank and the constraints that bind)."""
HOTTEST, COLDEST = 0.25, 0.06
"""Temperatures in units of what rounding adds to each direction of the factor; fitted on diagonal + low rank."""
SMALL = 64
"""Units of a core that has few ways from one good selection to the next: it starts four times as hot."""
_MANY = 2**62
_SWEEPS = 100
_LEAST_SWEEPS = 10


@dataclass
class _Clock:
    """How many sweeps of a core fit into the time that is left."""

    deadline: float
    seconds: float = 0.0
    work: float = 0.0

    def sweeps(self, wanted: int, size: int) -> int:
        """At most ``wanted``; 0 where hardly any would fit."""
        left = self.deadline - time.perf_counter()
        if left <= 0:
            return 0
        if not self.work:
            return min(wanted, _SWEEPS)
        fit = 0.9 * left * self.work / (self.seconds * size * size)
        return int(min(wanted, fit)) if fit >= _LEAST_SWEEPS else 0

    def note(self, sweeps: int, size: int, seconds: float) -> None:
        """A run that was made."""
        self.work += sweeps * size * size
        self.seconds += seconds


def search_core(
    problem: Selection, relaxed: Relaxed, start: Bools, *, seed: int, runs: int, deadline: float
) -> tuple[Bools, list[tuple[float, float]]]:
    """The best selection of some annealing runs, each twice as long as the last once the best core's size is known.

    Args:
        problem: what to minimise.
        relaxed: its relaxation.
        start: a feasible selection, ``(n,)``.
        seed: same seed, same answer, where no deadline cuts.
        runs: at most so many after the sizes were tried.
        deadline: stop at this `time.perf_counter()`.

    Returns:
        The selection, ``start`` where nothing better was met, and (`time.perf_counter()`, energy) as it improved.
    """
    undecided = np.minimum(relaxed.x, 1.0 - relaxed.x)
    most = problem.factor.shape[1] + len(problem.needs) + len(problem.most)  # more only before it has converged
    fractions = min(int((undecided > 1e-4).sum()), most)
    # what rounding at random would add, shared out to the directions that can make up for each other
    unit = float(problem.own @ (relaxed.x * (1.0 - relaxed.x))) / max(fractions, 1)
    best, energy, found = start, problem.energy_of(start), [(time.perf_counter(), problem.energy_of(start))]
    if fractions < 2 or unit <= 0.0:
        return best, found
    order = np.argsort(np.abs(relaxed.prices), kind="stable")
    clock, stream = _Clock(deadline), np.random.default_rng(seed)
    sizes = sorted({min(len(problem), int(size * fractions)) for size in SIZES})
    results: dict[int, float] = {}
    for number in range(len(sizes) + runs):
        trying = number < len(sizes)
        size = sizes[number] if trying else min(results, key=lambda known: results[known])
        sweeps = clock.sweeps(_SWEEPS if trying else _SWEEPS << (number - len(sizes) + 1), size)
        if sweeps == 0:
            break
        began = time.perf_counter()
        core = np.sort(order[:size])
        hottest = HOTTEST if size > SMALL else 4 * HOTTEST
        temperatures = unit * np.geomspace(hottest, COLDEST, sweeps)
        chosen = _run(problem, core, start, temperatures, stream)
        clock.note(sweeps, size, time.perf_counter() - began)
        value = problem.energy_of(chosen)
        if trying:
            results[size] = value
        if value < energy and problem.feasible(chosen):
            best, energy = chosen, value
            found.append((time.perf_counter(), energy))
    return best, found


def _run(problem: Selection, core: Ints, start: Bools, temperatures: Floats, stream: np.random.Generator) -> Bools:
    """One run from ``start`` over the units of ``core``, ``(m,)``."""
    free = np.zeros(len(problem), np.bool_)
    free[core] = True
    others = start & ~free
    rows = problem.factor[core]
    gram = rows @ rows.T
    linear = problem.linear[core] + rows @ (others.astype(np.float64) @ problem.factor)
    # exchanges with a dummy let units go, or stay, alone; where every group's number is given, none can
    dummies = 0 if (problem.least == problem.most).all() else max(len(core) // 4, 2)
    m, size = len(core), len(core) + dummies
    bits, padded, gradient = np.zeros(size, np.int8), np.zeros((size, size)), np.zeros(size)
    bits[:m] = start[core]
    bits[m : m + dummies // 2] = 1
    best = bits.copy()
    padded[:m, :m] = gram
    gradient[:m] = linear + gram @ bits[:m]
    gains = np.zeros((len(problem.needs), size))
    gains[:, :m] = problem.gains[:, core]
    anneal(
        padded,
        gradient,
        bits,
        np.flatnonzero(bits),
        gains,
        np.maximum(problem.slack(start), 0.0),
        *_limits(problem, core, start, dummies),
        temperatures,
        stream.gumbel(size=NOISE + size),
        stream.integers(1, 2**63, 1, dtype=np.uint64),
        best,
    )
    found = others.copy()
    found[core] = best[:m].astype(np.bool_)
    return found


def _limits(problem: Selection, core: Ints, start: Bools, dummies: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Groups of the core's units and of the dummies, and counts, least and most of each group that may bind.

    Groups without limits are one, the last, with the dummies.
    """
    tight = np.flatnonzero((problem.least > 0) | (problem.most < np.bincount(problem.groups)))
    place = np.full(len(problem.most), len(tight))
    place[tight] = np.arange(len(tight))
    groups = np.concatenate([place[problem.groups[core]], np.full(dummies, len(tight))]).astype(np.int64)
    parts = problem.counts(start)[tight], problem.least[tight], problem.most[tight]
    if (groups < len(tight)).all():
        return groups, *parts
    counts, least, most = (np.append(part, end) for part, end in zip(parts, (0, -_MANY, _MANY)))
    return groups, counts, least, most
