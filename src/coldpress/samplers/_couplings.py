"""Couplings laid out for compiled flips: rows of a dense matrix, or of a compressed one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldpress.samplers._model import Bits, Floats, Model
from coldpress.samplers._tabu import BLOCK, Walk, relink_dense, relink_sparse, search_dense, search_sparse

DENSE = 0.1
"""From this share of couplings on, and up to `MOST_DENSE` entries, the matrix is kept dense."""
MOST_DENSE = 1 << 29
_HIGHEST = 3e38


@dataclass(frozen=True)
class Couplings:
    """Either ``matrix``, (n, P), or the three arrays of a compressed one; P is n padded to whole blocks.

    Energies are in units of ``unit``, a power of two, and without ``offset``, the model's.
    """

    linear: Floats
    matrix: NDArray[Any] | None
    rows: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None
    product: Any
    dtype: Any
    unit: float
    offset: float

    def energy(self, walk: Walk) -> float:
        """Of the best state that a walk met, as the model has it."""
        return float(walk.energy[1]) * self.unit + self.offset

    def begin(self, bits: Bits, random: NDArray[np.uint64]) -> Walk:
        """A walk that starts at ``bits`` (n,), its deltas computed anew."""
        n, padded = len(bits), _padded(len(bits))
        x = bits.astype(self.dtype)
        field = np.asarray(self.product @ x, dtype=np.float64) + self.linear
        energy = float(0.5 * (bits @ (field + self.linear)))
        delta = np.full(padded, _HIGHEST, self.dtype)
        sign = np.ones(padded, self.dtype)
        sign[:n] = 1 - 2 * x
        delta[:n] = sign[:n] * field
        least = np.empty(padded // BLOCK, self.dtype)
        until, iteration = np.zeros(padded, np.int32), np.zeros(2, np.int64)
        return Walk(delta, sign, until, sign.copy(), least, least.copy(), iteration, np.array([energy, energy]), random)

    def search(self, walk: Walk, tenure: int, spread: int, patience: int, flips: int) -> bool:
        """Tabu search: at most ``flips`` more; True where ``patience`` of them brought nothing better."""
        if self.matrix is not None:
            return bool(search_dense(self.matrix, walk, tenure, spread, patience, flips))
        assert self.rows is not None
        return bool(search_sparse(*self.rows, walk, tenure, spread, patience, flips))

    def between(self, start: Bits, goal: Bits, steps: int, random: NDArray[np.uint64]) -> Bits:
        """The state (n,) after ``steps`` greedy flips from ``start`` toward ``goal``."""
        walk = self.begin(start, random)
        toward = np.ones_like(walk.sign)
        toward[: len(goal)] = 1 - 2 * goal
        if self.matrix is not None:
            relink_dense(self.matrix, walk.delta, walk.sign, toward, steps)
        else:
            assert self.rows is not None
            relink_sparse(*self.rows, walk.delta, walk.sign, toward, steps)
        return bits_of(walk.sign, len(start))


def bits_of(sign: NDArray[Any], n: int) -> Bits:
    """Bits (n,) of padded signs."""
    return (sign[:n] < 0).astype(np.int8)


def lay_out(model: Model) -> Couplings:
    """The couplings of ``model`` over zeros and ones, so that no flip is ever rounded.

    All biases are multiples of a power of two, small enough and large enough for every delta and energy to be one that
    the floats hold exactly: float32 where that changes no bias (integers, mostly), else float64, where it changes them
    by less than n^2 / 2^52 of the largest. Deltas then are those of the state however many flips were made, and no
    search takes rounding for progress.
    """
    model, n, padded = model.as_binary(), len(model), _padded(len(model))
    largest = max(np.abs(model.linear).max(), np.abs(model.weights).max(initial=0.0), 1e-300)
    scale = 2.0 ** -np.ceil(np.log2(largest))
    weights, linear = model.weights * scale, model.linear * scale
    sizes = np.abs(weights)
    bound = (np.abs(linear) + np.bincount(model.heads, sizes, n) + np.bincount(model.tails, sizes, n)).max()
    step = 2.0 ** (np.ceil(np.log2(bound or 1.0)) - 23)
    dtype: Any = np.float32
    if not all(np.array_equal(step * np.rint(a / step), a) for a in (weights, linear)):
        dtype, step = np.float64, 2.0 ** (np.ceil(np.log2(bound * n)) - 52)
    exact = replace(model, linear=step * np.rint(linear / step), weights=step * np.rint(weights / step))
    if model.density >= DENSE and n * padded <= MOST_DENSE:
        matrix = exact.matrix(dtype, padded)
        return Couplings(exact.linear, matrix, None, matrix[:, :n], dtype, 1.0 / scale, model.offset)
    compressed = exact.sparse(dtype)
    rows = (compressed.indptr, compressed.indices, compressed.data)
    return Couplings(exact.linear, None, rows, compressed, dtype, 1.0 / scale, model.offset)


def _padded(n: int) -> int:
    return (n // BLOCK + 1) * BLOCK
