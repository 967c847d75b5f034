"""What a layer suffers at each number of bits, as a polynomial of its binary-coded bits.

A model of 0/1 variables is quadratic and a layer's harm is not: it grows fourfold with each bit that goes. So the
harm of every code is fitted, in relative terms (else the fewest bits alone would count), without variables besides
the published ones.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from coldpress.filters import FilterSpace

Floats = NDArray[np.float64]
LEAST = 1e-9
"""Harms below this share of the greatest count as that much."""
RATIO = 0.01
"""How near the least ratio is found."""


def lost_bits(space: FilterSpace) -> NDArray[np.int64]:
    """Bits that go under each code, ``(codes,)``."""
    return space.codes.astype(np.int64) @ np.array(space.steps, dtype=np.int64)


def fitted_harm(space: FilterSpace, harms: Floats) -> Floats:
    """The quadratic polynomial of a layer's q nearest to its harms, as an upper triangular matrix ``(steps, steps)``.

    It is 0 where no bit goes, and the greatest ratio between a code's harm and the polynomial's is as small as can be.
    To lose six bits is one code in three steps, and the one whose harm no quadratic polynomial can follow.

    Args:
        space: names the codes.
        harms: ``(most_bits - least_bits + 1,)`` by bits lost; what no bit lost harms is taken off.
    """
    count = len(space.steps)
    pairs = [(i, i) for i in range(count)] + list(itertools.combinations(range(count), 2))
    codes = space.codes[1:].astype(np.float64)
    columns = np.stack([codes[:, i] * codes[:, j] for i, j in pairs], axis=1)
    wanted = (harms - harms[0])[lost_bits(space)[1:]]
    matrix = np.zeros((count, count))
    if wanted.max() <= 0.0:
        return matrix
    found = _least_ratio(columns, np.maximum(wanted, LEAST * wanted.max()))
    for (i, j), value in zip(pairs, found):
        matrix[i, j] = value
    return matrix


def _least_ratio(columns: Floats, wanted: Floats) -> Floats:
    """Coefficients for which the greatest ratio of ``columns @ coefficients`` and ``wanted`` (either way) is least.

    For a given ratio this is a linear programme, so the ratio is bisected; of all coefficients within it, those are
    taken whose relative errors have the least sum.
    """
    rows = columns / wanted[:, None]
    scale = np.abs(rows).max(axis=0)
    rows, codes = rows / scale, len(rows)
    away = np.block([[rows, -np.eye(codes)], [-rows, -np.eye(codes)]])  # |relative error| <= one slack a code
    beyond = np.concatenate([np.ones(codes), -np.ones(codes)])
    inside = np.block([[rows, np.zeros((codes, codes))], [-rows, np.zeros((codes, codes))]])
    price = np.concatenate([np.zeros(rows.shape[1]), np.ones(codes)])

    def within(ratio: float) -> Floats | None:
        limits = np.concatenate([np.full(codes, ratio), np.full(codes, -1.0 / ratio)])
        result: Any = linprog(
            price, np.concatenate([away, inside]), np.concatenate([beyond, limits]), bounds=(None, None)
        )
        return np.asarray(result.x[: rows.shape[1]]) if result.status == 0 else None

    low, high = 1.0, 1.0 + RATIO
    while (best := within(high)) is None:
        low, high = high, high**2
    while high / low > 1.0 + RATIO:
        middle = (low * high) ** 0.5
        found = within(middle)
        low, high, best = (low, middle, found) if found is not None else (middle, high, best)
    return best / scale


def fitted_changes(space: FilterSpace, changes: Floats) -> Floats:
    """The linear map from a layer's q nearest to its changes: ``(steps, features)``.

    Args:
        space: names the codes.
        changes: ``(most_bits - least_bits + 1, features)`` by bits lost; the first is taken as 0.
    """
    codes = space.codes[1:].astype(np.float64)
    wanted = changes[lost_bits(space)[1:]]
    sizes = np.linalg.norm(wanted, axis=1)
    if not sizes.max(initial=0.0) > 0.0:
        return np.zeros((len(space.steps), changes.shape[1]))
    scale = np.maximum(sizes, LEAST * sizes.max())[:, None]
    return np.asarray(np.linalg.lstsq(codes / scale, wanted / scale, rcond=None)[0], dtype=np.float64)
