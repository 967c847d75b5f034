"""What a layer suffers at each number of bits, as a polynomial of its binary-coded bits.

A model of 0/1 variables is quadratic and a layer's harm is not: it grows fourfold with each bit that goes. So the
harm of every code is fitted, in relative terms (else the fewest bits alone would count), without variables besides
the published ones.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from coldpress.filters import FilterSpace

Floats = NDArray[np.float64]
LEAST = 1e-12
"""Harms below this share of the greatest count as that much."""


def lost_bits(space: FilterSpace) -> NDArray[np.int64]:
    """Bits that go under each code, ``(codes,)``."""
    return space.codes.astype(np.int64) @ np.array(space.steps, dtype=np.int64)


def fitted_harm(space: FilterSpace, harms: Floats) -> Floats:
    """The quadratic polynomial of a layer's q nearest to its harms, as an upper triangular matrix ``(steps, steps)``.

    The polynomial is 0 where no bit goes. With three steps one code of eight is free, so harms are met but for some
    tens of per cent; the order of the codes is kept.

    Args:
        space: names the codes.
        harms: ``(most_bits - least_bits + 1,)`` by bits lost; the first, of no bit lost, is taken as 0.
    """
    count = len(space.steps)
    pairs = [(i, i) for i in range(count)] + list(itertools.combinations(range(count), 2))
    codes = space.codes[1:].astype(np.float64)
    columns = np.stack([codes[:, i] * codes[:, j] for i, j in pairs], axis=1)
    wanted = (harms - harms[0])[lost_bits(space)[1:]]
    scale = np.maximum(np.abs(wanted), LEAST * max(np.abs(wanted).max(), 1e-300))
    found = np.linalg.lstsq(columns / scale[:, None], wanted / scale, rcond=None)[0]
    matrix = np.zeros((count, count))
    for (i, j), value in zip(pairs, found):
        matrix[i, j] = value
    return matrix


def fitted_changes(space: FilterSpace, changes: Floats) -> Floats:
    """The linear map from a layer's q nearest to its changes: ``(steps, features)``.

    Args:
        space: names the codes.
        changes: ``(most_bits - least_bits + 1, features)`` by bits lost; the first is taken as 0.
    """
    codes = space.codes[1:].astype(np.float64)
    wanted = changes[lost_bits(space)[1:]]
    sizes = np.linalg.norm(wanted, axis=1)
    scale = np.maximum(sizes, LEAST * max(sizes.max(), 1e-300))[:, None]
    return np.asarray(np.linalg.lstsq(codes / scale, wanted / scale, rcond=None)[0], dtype=np.float64)
