"""Compiled annealing of a small dense `Selection` by heat-bath exchanges.

State: ``bits`` (m,) and the field ``gradient = linear + gram @ bits``. A move takes out one that goes and puts in the
partner that Boltzmann's distribution over all partners gives (the Gumbel-max trick: least change of the energy less
temperature times Gumbel noise), so that looking at m partners is one pass over a row and hardly a draw is wasted.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from functools import cache

import numba
import numpy as np
from numpy.typing import NDArray

from coldpress.selection import Floats, Ints

NOISE = 4096
"""Gumbel draws that a run cycles through, from a place drawn at random; their array has m more."""
_NEVER = 1e300


@numba.njit(cache=True, nogil=True, fastmath={"nnan", "ninf", "nsz", "reassoc", "contract"})
def anneal(
    gram: Floats,
    gradient: Floats,
    bits: NDArray[np.int8],
    going: Ints,
    gains: Floats,
    slack: Floats,
    groups: Ints,
    counts: Ints,
    least: Ints,
    most: Ints,
    temperatures: Floats,
    noise: Floats,
    random: NDArray[np.uint64],
    best: NDArray[np.int8],
) -> float:
    """A sweep, as many moves as units go, at each temperature; all state is changed in place.

    Args:
        gram: ``(m, m)``.
        gradient: at ``bits``, ``(m,)``.
        bits: 1 where a unit goes, ``(m,)``.
        going: places of the ones.
        gains: ``(budgets, m)``.
        slack: what is freed beyond the needs, ``(budgets,)``.
        groups: ``(m,)``; counts, least, most: ``(groups,)``, as in `Selection`.
        temperatures: one a sweep.
        noise: ``(NOISE + m,)`` Gumbel draws.
        random: the generator's state, one number, not 0.
        best: receives the best bits met.

    Returns:
        The energy of ``best``, less that of the bits at the start.
    """
    m, budgets = len(bits), len(slack)
    own = np.empty(m)
    enter = np.empty(m)  # change where a unit goes; never for those that do already
    closed = np.zeros(m)  # never where the unit's group may lose no more
    change = np.empty(m)
    for i in range(m):
        own[i] = 0.5 * gram[i, i]
        enter[i] = _NEVER if bits[i] else gradient[i] + own[i]
        closed[i] = _NEVER if counts[groups[i]] >= most[groups[i]] else 0.0
    energy, lowest, state = 0.0, 0.0, random[0]
    grouped = len(counts) > 1
    for t in temperatures:
        for _ in range(len(going)):
            state ^= state >> np.uint64(12)
            state ^= state << np.uint64(25)
            state ^= state >> np.uint64(27)
            drawn = state * np.uint64(2685821657736338717)
            a = int(((drawn >> np.uint64(40)) * np.uint64(len(going))) >> np.uint64(24))
            place = int((drawn >> np.uint64(16)) & np.uint64(NOISE - 1))
            i = going[a]
            row, home, leave = gram[i], groups[i], own[i] - gradient[i]
            for j in range(m):
                change[j] = enter[j] - row[j] - t * noise[place + j]
            for b in range(budgets):
                floor = gains[b, i] - slack[b]
                for j in range(m):
                    if gains[b, j] < floor:
                        change[j] = _NEVER
            if grouped:
                fixed = _NEVER if counts[home] <= least[home] else 0.0
                for j in range(m):
                    if groups[j] != home:
                        change[j] += closed[j] + fixed
            least_change = _NEVER
            for j in range(m):
                least_change = min(least_change, change[j])
            # to stay is a choice as well, of change 0 and with noise of its own
            if least_change + leave >= -t * noise[int(drawn & np.uint64(NOISE - 1))]:
                continue
            j = 0
            while j < m and change[j] != least_change:
                j += 1
            if j == m:
                continue
            energy += leave + enter[j] - row[j]
            going[a] = j
            bits[i], bits[j] = 0, 1
            entering = gram[j]
            for k in range(m):
                step = entering[k] - row[k]
                gradient[k] += step
                enter[k] += step
            enter[i], enter[j] = gradient[i] + own[i], _NEVER
            for b in range(budgets):
                slack[b] += gains[b, j] - gains[b, i]
            away = groups[j]
            if away != home:
                counts[home] -= 1
                counts[away] += 1
                if grouped:
                    for k in range(m):
                        if groups[k] == home:
                            closed[k] = 0.0
                        elif groups[k] == away:
                            closed[k] = _NEVER if counts[away] >= most[away] else 0.0
            if energy < lowest - 1e-14 * abs(lowest):
                lowest = energy
                best[:] = bits
    random[0] = state
    return lowest


@cache
def warm_up() -> None:
    """Compile `anneal`, or load it from the disk, so that no run's clock sees it."""
    bits, ints, none = np.array([1, 0], np.int8), np.zeros(1, np.int64), np.zeros(0)
    anneal(
        np.eye(2),
        np.ones(2),
        bits,
        np.zeros(1, np.int64),
        np.zeros((0, 2)),
        none,
        np.zeros(2, np.int64),
        ints + 1,
        ints + 1,
        ints + 1,
        np.ones(1),
        np.zeros(NOISE + 2),
        np.ones(1, np.uint64),
        bits.copy(),
    )
