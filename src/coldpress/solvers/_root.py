"""The root of the exact solvers: the convex energy shifted where the relaxed solution is spread, and its bound."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from coldpress.solvers._answer import Progress
from coldpress.solvers._convex import Convex, shift, spreads
from coldpress.solvers._moves import polish
from coldpress.solvers._relaxation import Oracle, Relaxed, relax
from coldpress.solvers._state import Arrays, Floats, Ints

ROUNDS = 6
_WORSE = 0.3  # of the best plan's energy: a shift that lowers the bound by more leads nowhere


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


def bound_root(progress: Progress, arrays: Arrays, begin: Ints, max_gap: float, rounds: int = ROUNDS) -> Root:
    """Alternate between the relaxed solution and the shift of the energy that is best for it.

    Raises the bound of ``progress`` and offers it the plans met; stops at ``max_gap``, when a round gains
    little, or when the time is up.
    """
    bound_at_once(progress)
    plain = Convex.of(progress.problem)
    oracle = Oracle(progress.problem)
    level = abs(plain.value(plain.vector(begin)))
    if progress.choice is not None:
        level = max(level, abs(progress.energy))
    penalty = max(10.0 * level, 1e-9)
    atoms = oracle.atom(plain, begin)
    best: Root | None = None
    deadline = progress.started + progress.time_limit
    if progress.problem.energy.is_convex:
        relaxed = relax(
            plain, oracle, atoms, free(progress), penalty=penalty, cutoff=progress.energy, tolerance=1e-2,
            deadline=deadline,
        )  # fmt: skip
        progress.raise_bound(relaxed.bound)
        best, atoms = Root(plain, oracle, relaxed, penalty), relaxed.atoms
        if progress.gap <= max_gap or rounds == 0 or progress.left == 0.0 or not np.isfinite(relaxed.bound):
            return best
    spread = spreads(plain, plain.vector(begin), level, smoothing=0.5)
    before = progress.seconds
    energy = shift(plain, spread, sweeps=3)
    effort = progress.seconds - before
    for step in range(rounds):
        floor = -np.inf if best is None else best.relaxed.bound - _WORSE * level
        relaxed = relax(
            energy, oracle, atoms, free(progress), penalty=penalty, cutoff=progress.energy, floor=floor, tolerance=2e-4,
            deadline=deadline,
        )  # fmt: skip
        gained = np.inf if best is None else relaxed.bound - best.relaxed.bound
        if best is None or gained > 0:
            best = Root(energy, oracle, relaxed, penalty)
        progress.raise_bound(relaxed.bound)
        round_mixture(progress, arrays, energy, relaxed)
        if progress.gap <= max_gap or progress.left == 0.0 or not np.isfinite(relaxed.bound):
            break
        if relaxed.value < floor or (step >= 2 and gained < 2e-4 * abs(relaxed.bound)):
            break
        atoms = relaxed.atoms
        if progress.left < 1.5 * effort:
            break
        # The saddle point's spread is approached by averaging: the newest counts 1 / (step + 1).
        newest = spreads(plain, relaxed.y, level)
        spread = newest if step == 0 else [old + (new - old) / (step + 1) for old, new in zip(spread, newest)]
        before = progress.seconds
        energy = shift(plain, spread, sweeps=5)
        effort = progress.seconds - before
    assert best is not None
    return best


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
