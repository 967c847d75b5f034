"""A convex energy, equal to the problem's on every plan and as large as possible in between.

Unit by unit the first option is eliminated (``x_0 = 1 - sum of the others``), which uses the one-hot rows up. What
remains of the quadratic part may be changed by any symmetric block per unit, since ``y y^T`` has the diagonal ``y`` and
zeros elsewhere there; ``shift`` moves such blocks M into the linear part, ``y' M y = diag(M)' y``, as far as K - M
stays positive semi-definite (quadratic convex reformulation, Billionnet, Elloumi and Plateau 2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from coldpress.problem import Problem
from coldpress.solvers._state import Floats, Ints

_FAR = 100.0  # times a unit's part of the level: harms above are smoothed the less the larger they are


@dataclass(frozen=True, eq=False)
class Convex:
    """``constant + linear @ y + y @ quadratic @ y / 2`` with y the 0/1 vector of all options but each unit's first.

    Attributes:
        quadratic: shape ``(m, m)``; positive semi-definite once shifted.
        linear: shape ``(m,)``.
        constant: energy of the first option everywhere.
        starts: first entry of each unit, and m: shape ``(units + 1,)``.
    """

    quadratic: Floats
    linear: Floats
    constant: float
    starts: Ints

    @classmethod
    def of(cls, problem: Problem) -> Convex:
        """The problem's energy in y; not convex yet where the energy is not."""
        K, offsets = problem.energy.quadratic, problem.offsets
        first = offsets[:-1]
        counts = np.diff(offsets)
        kept = np.ones(len(K), dtype=bool)
        kept[first] = False
        home = np.repeat(first, counts)[kept]
        base = K[:, first].sum(axis=1) + problem.energy.linear
        linear = base[kept] - base[home]
        quadratic = K[np.ix_(kept, kept)] - K[np.ix_(home, kept)] - K[np.ix_(kept, home)] + K[np.ix_(home, home)]
        constant = problem.energy_of(np.zeros(len(first), dtype=np.int64))
        starts = np.concatenate([[0], np.cumsum(counts - 1)]).astype(np.int64)
        return cls((quadratic + quadratic.T) / 2, linear, constant, starts)

    @property
    def blocks(self) -> list[slice]:
        """Each unit's entries."""
        return [slice(int(a), int(b)) for a, b in zip(self.starts, self.starts[1:]) if b > a]

    @cached_property
    def _others(self) -> Ints:
        """Where the entries of y stand among all options of all units."""
        counts = np.diff(self.starts)
        return np.arange(len(self.linear)) + np.repeat(np.arange(1, len(counts) + 1), counts)

    def options(self, entries: Floats) -> Floats:
        """``(m,)`` entries of y as ``(options,)`` of all units: 0 for each unit's first."""
        found = np.zeros(len(entries) + len(self.starts) - 1)
        found[self._others] = entries
        return found

    def value(self, y: Floats) -> float:
        """The energy at ``y``, shape ``(m,)``."""
        return float(self.constant + y @ (self.linear + 0.5 * (self.quadratic @ y)))

    def vector(self, choice: Ints) -> Floats:
        """``y`` of a choice, shape ``(m,)``."""
        y = np.zeros(len(self.linear))
        chosen = np.flatnonzero(choice)
        y[self.starts[chosen] + choice[chosen] - 1] = 1.0
        return y

    def moved(self, moves: list[Floats]) -> Convex:
        """The blocks ``moves`` (one per entry of `blocks`) taken from the quadratic part to the linear part."""
        quadratic, linear = self.quadratic.copy(), self.linear.copy()
        for block, move in zip(self.blocks, moves):
            quadratic[block, block] -= move
            linear[block] += 0.5 * np.diag(move)
        return Convex(quadratic, linear, self.constant, self.starts)


def shift(energy: Convex, spread: list[Floats], sweeps: int = 8, rising: bool = False) -> Convex:
    """Move blocks to the linear part so that the energy rises most where it counts, and stays convex.

    Maximises ``sum_u <M_u, C_u> + mu logdet(K - M)`` over block-diagonal M by exact block steps
    ``M_u += S_u - mu C_u^-1`` (S_u the Schur complement of the unit), with mu falling sweep by sweep.

    Args:
        energy: from `Convex.of`.
        spread: C_u per block, the covariance of the unit's options in the relaxed solution, positive definite.
        sweeps: passes over the units.
        rising: move semi-definite blocks only. Then nothing falls where units mix options, since the diagonal of such a
            block is at least its square form there (Jensen), and what relaxes the energy relaxes to no less.
    """
    m = len(energy.linear)
    if m == 0:
        return energy
    blocks = energy.blocks
    scale = float(np.abs(np.diag(energy.quadratic)).mean()) or 1.0
    floor = min(float(np.linalg.eigvalsh(energy.quadratic)[0]), 0.0)
    ridge = -floor * 1.01 + 1e-6 * scale
    lifted = energy.quadratic + ridge * np.eye(m)
    moves = [np.zeros((b.stop - b.start,) * 2) for b in blocks]
    cores = [(c + c.T) / 2 for c in spread]
    caps = [np.linalg.inv(c).astype(np.float64) for c in cores]
    worth = sum(float(np.sum(c * lifted[b, b])) for b, c in zip(blocks, cores))
    for mu in np.geomspace(1e-1, 1e-4, sweeps) * worth / m:
        inverse = _inverse(lifted, blocks, moves)
        if inverse is None:
            break
        try:
            trial = _stepped(inverse, blocks, moves, caps, cores, mu, rising)
        except np.linalg.LinAlgError:  # so flat that a unit's own part is lost in rounding
            break
        if _inverse(lifted, blocks, trial) is None:
            break
        moves = trial
    shifted = energy.moved(moves)
    lowest = float(np.linalg.eigvalsh(shifted.quadratic)[0])
    # The ridge, and rounding in the updates, are paid back exactly; what convexity is left over is moved too.
    pay = lowest - 1e-12 * scale
    return shifted.moved([pay * np.eye(b.stop - b.start) for b in blocks])


def _stepped(
    inverse: Floats,
    blocks: list[slice],
    moves: list[Floats],
    caps: list[Floats],
    cores: list[Floats],
    mu: float,
    rising: bool,
) -> list[Floats]:
    """The moves after one step of every block; ``inverse``, of what the moves leave, is updated in place."""
    trial = [move.copy() for move in moves]
    for b, move, cap, core in zip(blocks, trial, caps, cores):
        schur = np.linalg.inv(inverse[b, b]).astype(np.float64)
        step = schur - (_least(mu * cap, schur + move) if rising else mu * cap)
        move += (step + step.T) / 2
        # The inverse after the step, whose block is core / mu by construction (Woodbury).
        left = np.linalg.inv(schur - step) if rising else core / mu
        gain = schur @ (left - inverse[b, b]) @ schur
        columns = inverse[:, b].copy()
        inverse += columns @ ((gain + gain.T) / 2) @ columns.T
    return trial


def _least(a: Floats, b: Floats) -> Floats:
    """The smaller of two positive definite matrices, direction by direction, so that ``b`` less it is semi-definite."""
    root = np.linalg.cholesky(b)
    half = np.linalg.inv(root)
    values, vectors = np.linalg.eigh(half @ a @ half.T)
    side = root @ vectors
    return (side * np.minimum(values, 1.0 - 1e-9)) @ side.T


def _inverse(lifted: Floats, blocks: list[slice], moves: list[Floats]) -> Floats | None:
    """Inverse of what the moves leave, or None when rounding has made that indefinite."""
    residual = lifted.copy()
    for b, move in zip(blocks, moves):
        residual[b, b] -= move
    try:
        root = np.linalg.inv(np.linalg.cholesky(residual))
    except np.linalg.LinAlgError:
        return None
    return root.T @ root


def spreads(energy: Convex, y: NDArray[np.float64], level: float = np.inf, smoothing: float = 0.05) -> list[Floats]:
    """Covariance of every unit's options under the relaxed ``y``, smoothed toward indifference.

    Args:
        energy: whose units are meant.
        y: shape ``(m,)``.
        level: energy of a good plan. Options whose own harm is far above a unit's part of it are hardly smoothed: no
            good plan takes them, and a share of each would outweigh all that counts.
        smoothing: share of indifference.
    """
    found = []
    own = np.maximum(np.diag(energy.quadratic), 1e-300)
    part = _FAR * level / max(len(energy.blocks), 1)
    for block in energy.blocks:
        size = block.stop - block.start
        even = np.minimum(1.0, part / own[block]) / (size + 1)
        share = np.clip((1 - smoothing) * y[block] + smoothing * even, 1e-9, None)
        found.append(np.diag(share) - np.outer(share, share) / max(1.0, float(share.sum()) * 1.0000001))
    return found
