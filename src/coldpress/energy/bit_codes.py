"""What a layer suffers at each number of bits, as a polynomial of its binary-coded bits.

A model of 0/1 variables is quadratic and a layer's harm is not: it grows fourfold or more with each bit that goes. But
the steps 1, 2, 3 have two codes for three bits, and one of them may cost what it likes as long as that is not too
little: so all numbers of bits are met, without variables besides the published ones.
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
    """The quadratic polynomial of a layer's q that tells its harms, as an upper triangular matrix ``(steps, steps)``.

    It is 0 where no bit goes. Plain codes (`FilterSpace.plain`) are met by the least ratio that is possible, mostly 1;
    others cost no less, or by that ratio at most.

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
    found = _least_ratio(columns, np.maximum(wanted, LEAST * wanted.max()), space.plain[1:])
    for (i, j), value in zip(pairs, found):
        matrix[i, j] = value
    return matrix


def _least_ratio(columns: Floats, wanted: Floats, plain: NDArray[np.bool_]) -> Floats:
    """Coefficients for which the ratio of ``columns @ coefficients`` and ``wanted`` is within the narrowest limits.

    Only plain codes have an upper limit. For given limits this is a linear programme, so they are bisected; of all
    coefficients within them, those are taken whose relative errors at plain codes have the least sum.
    """
    rows = columns / wanted[:, None]
    scale = np.abs(rows).max(axis=0)
    rows = rows / scale
    codes, met, slacks = len(rows), rows[plain], int(plain.sum())
    sides = np.block([[met, -np.eye(slacks)], [-met, -np.eye(slacks)]])  # |relative error| <= one slack a code
    limited = np.block([[met, np.zeros((slacks, slacks))], [-rows, np.zeros((codes, slacks))]])
    price = np.concatenate([np.zeros(rows.shape[1]), np.ones(slacks)])

    def within(ratio: float) -> Floats | None:
        limits = [np.ones(slacks), np.full(slacks, -1.0), np.full(slacks, ratio), np.full(codes, -1.0 / ratio)]
        matrix = np.concatenate([sides, limited])
        result: Any = linprog(price, matrix, np.concatenate(limits), bounds=(None, None))
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
    """The linear map from a layer's q nearest, at plain codes, to its changes: ``(steps, features)``.

    Args:
        space: names the codes.
        changes: ``(most_bits - least_bits + 1, features)`` by bits lost; the first is taken as 0.
    """
    plain = space.plain & space.codes.any(axis=1)
    codes, wanted = space.codes[plain].astype(np.float64), changes[lost_bits(space)[plain]]
    sizes = np.linalg.norm(wanted, axis=1)
    if not sizes.max(initial=0.0) > 0.0:
        return np.zeros((len(space.steps), changes.shape[1]))
    scale = np.maximum(sizes, LEAST * sizes.max())[:, None]
    return np.asarray(np.linalg.lstsq(codes / scale, wanted / scale, rcond=None)[0], dtype=np.float64)
