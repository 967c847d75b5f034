"""Random numbers within compiled code."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(cache=True, nogil=True, inline="always")
def draw(state: NDArray[np.uint64]) -> float:
    """A uniform number in [0, 1): xorshift64*, whose state is the array's one entry, not 0."""
    x = state[0]
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    state[0] = x
    return float((x * np.uint64(2685821657736338717)) >> np.uint64(11)) * (1.0 / 9007199254740992.0)
