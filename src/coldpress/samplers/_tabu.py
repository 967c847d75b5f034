"""Compiled one-flip tabu search.

A state of n bits is kept as ``sign = 1 - 2 x`` and ``delta``, the change of the energy by each flip, both padded to
whole blocks of `BLOCK`; the padding has the largest delta, so it is never chosen. Flipping j adds
``sign_i sign_j Q_ij`` to every other delta and negates its own.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from coldpress.chance import draw

BLOCK = 64
"""Deltas scanned at once; the least of each block is remembered."""

_compiled = numba.njit(cache=True, nogil=True)
_inline = numba.njit(cache=True, nogil=True, inline="always")
_vector = numba.njit(cache=True, nogil=True, fastmath={"nnan", "nsz", "reassoc", "contract", "arcp"})


class Walk(NamedTuple):
    """A search on its way. P is n padded, B = P / BLOCK; all floats but the energies have the matrix's precision.

    Attributes:
        delta: (P,) change of the energy by each flip.
        sign: (P,) 1 where the bit is 0, -1 where it is 1.
        until: (P,) int32, the iteration up to which a bit may not be flipped.
        best: (P,) the signs of the best state.
        least, least_free: (B,) least delta of each block, of all and of those that are not tabu.
        iteration: (2,) int64, of now and of the last improvement.
        energy: (2,) float64, now and best.
        random: (1,) state of `draw`.
    """

    delta: NDArray[Any]
    sign: NDArray[Any]
    until: NDArray[np.int32]
    best: NDArray[Any]
    least: NDArray[Any]
    least_free: NDArray[Any]
    iteration: NDArray[np.int64]
    energy: NDArray[np.float64]
    random: NDArray[np.uint64]


@_vector
def _add_and_scan(delta: Any, sign: Any, row: Any, step: Any, until: Any, now: Any, least: Any, free: Any) -> None:
    """Add ``step * sign * row`` to ``delta`` and note the least of each block, in one pass over memory."""
    highest = delta.dtype.type(3e38)
    for b in range(len(least)):
        low, low_free = highest, highest
        for i in range(b * BLOCK, b * BLOCK + BLOCK):
            value = delta[i] + step * sign[i] * row[i]
            delta[i] = value
            low = min(low, value)
            low_free = min(low_free, value if until[i] <= now else highest)
        least[b] = low
        free[b] = low_free


@_vector
def _scan(delta: Any, until: Any, now: Any, least: Any, free: Any, first: int, last: int) -> None:
    """Note the least delta of each block from ``first`` to before ``last``."""
    highest = delta.dtype.type(3e38)
    for b in range(first, last):
        low, low_free = highest, highest
        for i in range(b * BLOCK, b * BLOCK + BLOCK):
            value = delta[i]
            low = min(low, value)
            low_free = min(low_free, value if until[i] <= now else highest)
        least[b] = low
        free[b] = low_free


@_inline
def _choose(walk: Walk, now: Any) -> int:
    """The flip with the least delta that is not tabu, or that leads below the best; ties are broken at random."""
    low, low_free = walk.least.min(), walk.least_free.min()
    highest = walk.delta.dtype.type(1e38)
    tabu_too = low_free > highest or walk.energy[0] + low < min(walk.energy[0], walk.energy[1])
    blocks = len(walk.least)
    first, shift = int(draw(walk.random) * blocks), int(draw(walk.random) * BLOCK)
    for b in range(blocks):
        block = (first + b) % blocks
        if (walk.least[block] != low) if tabu_too else (walk.least_free[block] != low_free):
            continue
        for k in range(BLOCK):
            i = block * BLOCK + (shift + k) % BLOCK
            if tabu_too:
                if walk.delta[i] == low:
                    return i
            elif walk.delta[i] == low_free and walk.until[i] <= now:
                return i
    return 0


@_inline
def _note_best(walk: Walk) -> None:
    if walk.energy[0] < walk.energy[1]:
        walk.energy[1] = walk.energy[0]
        walk.best[:] = walk.sign
        walk.iteration[1] = walk.iteration[0]


@_inline
def _turn(walk: Walk, j: int, tenure: int, spread: int) -> None:
    """Flip j in all but the other deltas, and make it tabu for ``tenure`` to ``tenure + spread`` iterations."""
    walk.energy[0] += walk.delta[j]
    walk.delta[j] = -walk.delta[j]
    walk.sign[j] = -walk.sign[j]
    walk.iteration[0] += 1
    walk.until[j] = np.int32(walk.iteration[0] + tenure + int(draw(walk.random) * (spread + 1)))


@_compiled
def search_dense(matrix: NDArray[Any], walk: Walk, tenure: int, spread: int, patience: int, flips: int) -> bool:
    """Flip until ``patience`` flips brought nothing better (True) or ``flips`` are made (False); matrix (n, P)."""
    blocks = len(walk.least)
    _scan(walk.delta, walk.until, np.int32(walk.iteration[0]), walk.least, walk.least_free, 0, blocks)
    for _ in range(flips):
        j = _choose(walk, np.int32(walk.iteration[0]))
        if walk.delta[j] >= 0:
            _note_best(walk)
        if walk.iteration[0] - walk.iteration[1] >= patience:
            return True
        step = walk.sign[j]
        _turn(walk, j, tenure, spread)
        now = np.int32(walk.iteration[0])
        _add_and_scan(walk.delta, walk.sign, matrix[j], step, walk.until, now, walk.least, walk.least_free)
    _note_best(walk)
    return False


@_compiled
def search_sparse(
    begins: NDArray[Any],
    others: NDArray[Any],
    weights: NDArray[Any],
    walk: Walk,
    tenure: int,
    spread: int,
    patience: int,
    flips: int,
) -> bool:
    """As `search_dense`, on the rows of a compressed matrix: row j is ``weights[begins[j]:begins[j + 1]]``.

    Few neighbours touch few blocks, so only these are scanned after a flip. All are every ``tenure / 8`` flips, which
    is how much longer a bit may stay tabu.
    """
    blocks, every, fresh = len(walk.least), max(tenure // 8, 1), False
    for _ in range(flips):
        now = np.int32(walk.iteration[0])
        if not fresh or now % every == 0:
            _scan(walk.delta, walk.until, now, walk.least, walk.least_free, 0, blocks)
        j = _choose(walk, now)
        if walk.delta[j] >= 0:
            _note_best(walk)
        if walk.iteration[0] - walk.iteration[1] >= patience:
            return True
        step = walk.sign[j]
        _turn(walk, j, tenure, spread)
        for e in range(begins[j], begins[j + 1]):
            walk.delta[others[e]] += step * walk.sign[others[e]] * weights[e]
        fresh = begins[j + 1] - begins[j] < blocks // 2
        if fresh:
            now = np.int32(walk.iteration[0])
            _scan(walk.delta, walk.until, now, walk.least, walk.least_free, j // BLOCK, j // BLOCK + 1)
            for e in range(begins[j], begins[j + 1]):
                b = others[e] // BLOCK
                _scan(walk.delta, walk.until, now, walk.least, walk.least_free, b, b + 1)
    _note_best(walk)
    return False


@_compiled
def relink_dense(matrix: NDArray[Any], delta: NDArray[Any], sign: NDArray[Any], goal: NDArray[Any], steps: int) -> None:
    """Make ``steps`` flips toward the signs ``goal``, each the one with the least delta of those still to make."""
    for _ in range(steps):
        j = _nearest(delta, sign, goal)
        step = sign[j]
        delta[j] = -delta[j]
        sign[j] = -sign[j]
        for i in range(len(delta)):
            delta[i] += step * sign[i] * matrix[j, i]


@_compiled
def relink_sparse(
    begins: NDArray[Any],
    others: NDArray[Any],
    weights: NDArray[Any],
    delta: NDArray[Any],
    sign: NDArray[Any],
    goal: NDArray[Any],
    steps: int,
) -> None:
    """As `relink_dense`, on a compressed matrix."""
    for _ in range(steps):
        j = _nearest(delta, sign, goal)
        step = sign[j]
        delta[j] = -delta[j]
        sign[j] = -sign[j]
        for e in range(begins[j], begins[j + 1]):
            delta[others[e]] += step * sign[others[e]] * weights[e]


@_inline
def _nearest(delta: NDArray[Any], sign: NDArray[Any], goal: NDArray[Any]) -> int:
    """The least delta among the bits that differ from the goal."""
    j, low = -1, np.inf
    for i in range(len(sign)):
        if sign[i] != goal[i] and delta[i] < low:
            j, low = i, float(delta[i])
    return j
