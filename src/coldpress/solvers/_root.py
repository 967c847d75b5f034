"""The root of the exact solvers: the convex energy shifted where the relaxed solution is spread, and its bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from coldpress.solvers._answer import Progress
from coldpress.solvers._convex import Convex, shift, spreads
from coldpress.solvers._moves import polish
from coldpress.solvers._relaxation import Oracle, Relaxed, relax
from coldpress.solvers._state import Arrays, Floats, Ints

_WORSE = 0.3  # of the best plan's energy: a shift that lowers the bound by more leads nowhere
_RISING, _ANY = 4, 6  # rounds
_ROUGH, _FINE = 1e-3, 2e-4  # relative gaps at which a relaxation is solved


class Root(NamedTuple):
    """A convex energy, the cost tables, and the relaxed solution under both."""

    energy: Convex
    oracle: Oracle
    relaxed: Relaxed
    penalty: float


def free(progress: Progress) -> list[Floats]:
    """Nothing barred: zeros per unit."""
    return [np.zeros(size) for size in progress.problem.sizes]


def bound_at_once(progress: Progress) -> None:
    """A harm is at least 0 where the energy is convex: weak, but there at once."""
    energy, offsets = progress.problem.energy, progress.problem.offsets
    if energy.is_convex:
        progress.raise_bound(energy.constant + float(np.minimum.reduceat(energy.linear, offsets[:-1]).sum()))


class RootSearch:
    """Alternates between the relaxed solution and the shift of the energy that is best for it.

    A convex energy is relaxed as it is first (`plain`), then with shifts that raise it wherever units mix options
    (`rising`), then with any (`any_shift`): these may raise the bound further, or lower it, and are dropped then. Every
    stage raises the bound of ``progress`` and offers it the plans met, and stops at ``max_gap``, when rounds gain
    little, or when the time is up.

    Args:
        progress: of the problem; gets bounds and plans.
        arrays: the problem's.
        begin: an allowed choice.
        max_gap: relative.
    """

    def __init__(self, progress: Progress, arrays: Arrays, begin: Ints, max_gap: float) -> None:
        bound_at_once(progress)
        self._progress, self._arrays, self._max_gap = progress, arrays, max_gap
        self._energy, self._oracle = Convex.of(progress.problem), Oracle(progress.problem)
        self._begin = self._energy.vector(begin)
        self._level = abs(self._energy.value(self._begin))
        if progress.choice is not None:
            self._level = max(self._level, abs(progress.energy))
        self._atoms = self._oracle.atom(self._energy, begin)
        self._y: Floats | None = None
        self._root: Root | None = None

    @property
    def root(self) -> Root:
        """The best so far; `any_shift` comes first where the energy is not convex."""
        assert self._root is not None
        return self._root

    @property
    def stages(self) -> list[Callable[[], None]]:
        """What there is to do, cheapest first."""
        return (
            [self.plain, self.rising, self.any_shift] if self._progress.problem.energy.is_convex else [self.any_shift]
        )

    @property
    def done(self) -> bool:
        """Whether the gap is small enough, the time is up, or nothing is allowed."""
        nothing = self._root is not None and not np.isfinite(self._root.relaxed.bound)
        return nothing or self._progress.gap <= self._max_gap or self._progress.left == 0.0

    def plain(self) -> None:
        """Relax the energy as it is."""
        self._relax(self._energy, 10.0 * _ROUGH)

    def rising(self) -> None:
        """Shifts that lower the relaxed energy nowhere."""
        self._rounds(_RISING, rising=True, tolerance=_ROUGH)

    def any_shift(self) -> None:
        """Shifts without limit."""
        self._rounds(_ANY, rising=False, tolerance=_FINE)

    def _rounds(self, count: int, rising: bool, tolerance: float) -> None:
        spread: list[Floats] = []
        seconds = 0.0
        for step in range(count):
            if self._root is not None and (self.done or self._progress.left < 1.5 * seconds):
                return
            if self._y is None:
                newest = spreads(self._energy, self._begin, self._level, smoothing=0.5)
            else:
                newest = spreads(self._energy, self._y, self._level)
            # The saddle point's spread is approached by averaging: the newest counts 1 / step.
            spread = newest if step <= 1 else [old + (new - old) / step for old, new in zip(spread, newest)]
            before = self._progress.seconds
            energy = shift(self._energy, spread, sweeps=4, rising=rising)
            seconds = self._progress.seconds - before
            gained = self._relax(energy, tolerance)
            if gained == -np.inf or (step >= 2 and gained < _FINE * abs(self.root.relaxed.bound)):
                return

    def _relax(self, energy: Convex, tolerance: float) -> float:
        """Relax an energy; what the bound gains over the best so far, -inf where it is clearly worse."""
        progress, best = self._progress, self._root
        floor = -np.inf if best is None else best.relaxed.bound - _WORSE * self._level
        penalty = max(10.0 * self._level, 1e-9)
        found = relax(
            energy, self._oracle, self._atoms, free(progress), penalty=penalty, cutoff=progress.energy, floor=floor,
            tolerance=tolerance, deadline=progress.started + progress.time_limit,
        )  # fmt: skip
        if found.value < floor:
            return -np.inf
        gained = np.inf if best is None else found.bound - best.relaxed.bound
        if gained > 0:
            self._root = Root(energy, self._oracle, found, penalty)
        self._atoms, self._y = found.atoms, found.y
        progress.raise_bound(found.bound)
        round_mixture(progress, self._arrays, energy, found)
        return gained


def round_mixture(progress: Progress, arrays: Arrays, energy: Convex, relaxed: Relaxed) -> None:
    """Offer the likeliest plan of the mixture and its heaviest member, repaired and descended."""
    likeliest = np.zeros(len(energy.starts) - 1, dtype=np.int64)
    for unit, (a, b) in enumerate(zip(energy.starts, energy.starts[1:])):
        part = relaxed.y[a:b]
        likeliest[unit] = int(np.argmax(np.concatenate([[1.0 - part.sum()], part])))
    heaviest = relaxed.atoms.choices[int(np.argmax(relaxed.weights[: len(relaxed.atoms)]))]
    for choice in (likeliest, heaviest):
        # Descent is dear beside a bound: not twice from the same plan.
        if choice.tobytes() in progress.seen:
            continue
        progress.seen.add(choice.tobytes())
        if progress.problem.allowed(choice):
            polished, inside = polish(arrays, choice)
            if inside:
                progress.offer(polished)
