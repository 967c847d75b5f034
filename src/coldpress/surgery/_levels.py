"""Compiled search over the levels of a layer's weights: each row by itself, its field H (w - q) kept up to date.

A row's error is e^T H e with e = w - q and q = scale * level. Changing q_j by d changes it by d (d H_jj - 2 g_j), where
g = H e; so a move is looked at in constant time, and made in the time of one row of H.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from coldpress.chance import draw

Floats = NDArray[np.float32]
Levels = NDArray[np.int16]
Ints = NDArray[np.int32]
Flags = NDArray[np.bool_]

_compiled = numba.njit(cache=True, nogil=True, fastmath=True)
_inline = numba.njit(cache=True, nogil=True, fastmath=True, inline="always")
_EPS = 1e-7


@numba.njit(cache=True, nogil=True, fastmath=True, parallel=True)
def search(
    weight: Floats,
    hessian: Floats,
    levels: Levels,
    scales: Floats,
    group: Ints,
    free: Flags,
    block: int,
    low: int,
    high: int,
    temperatures: Floats,
    refine: bool,
    seed: int,
) -> None:
    """Improve levels (and scales) in place; a row never ends with more error than it had.

    Args:
        weight: ``(rows, columns)``.
        hessian: ``(columns, columns)``, symmetric.
        levels: ``(rows, columns)``; zeros stay as many as they are where ``block`` is not 0.
        scales: ``(rows, groups)``.
        group: ``(columns,)`` the scale of each column.
        free: ``(columns,)`` whether a column's weights matter at all; the others stay.
        block: 0 for dense weights; else zeros move, within blocks of so many neighbours (all columns: anywhere).
        low, high: least and greatest level.
        temperatures: of the sweeps, as fractions of the row's mean error a weight; 0 descends.
        refine: whether scales are fitted too.
        seed: of the annealing.
    """
    for r in numba.prange(weight.shape[0]):
        _row(weight[r], hessian, levels[r], scales[r], group, free, block, low, high, temperatures, refine, seed + r)


@_compiled
def _row(
    w: Floats,
    hessian: Floats,
    levels: Levels,
    scales: Floats,
    group: Ints,
    free: Flags,
    block: int,
    low: int,
    high: int,
    temperatures: Floats,
    refine: bool,
    seed: int,
) -> None:
    columns = len(w)
    random = np.empty(1, np.uint64)
    random[0] = np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    error = np.empty(columns, np.float32)
    field = np.empty(columns, np.float32)
    best_levels, best_scales = levels.copy(), scales.copy()
    best = _refresh(w, hessian, levels, scales, group, error, field)
    for t in range(len(temperatures)):
        heat = temperatures[t] * best / columns
        if heat > 0.0:
            _shake(hessian, levels, scales, group, free, block, low, high, error, field, heat, random)
        else:
            _descend(hessian, levels, scales, group, free, block, low, high, error, field)
            _pairs(hessian, levels, scales, group, free, block, low, high, error, field)
            if refine:
                _fit_scales(hessian, levels, scales, group, error, field)
        now = _refresh(w, hessian, levels, scales, group, error, field)
        if now < best:
            best = now
            best_levels[:] = levels
            best_scales[:] = scales
    levels[:] = best_levels
    scales[:] = best_scales


@_compiled
def _refresh(
    w: Floats,
    hessian: Floats,
    levels: Levels,
    scales: Floats,
    group: Ints,
    error: Floats,
    field: Floats,
) -> float:
    """Error and field from the levels, and the row's error."""
    for j in range(len(w)):
        error[j] = w[j] - scales[group[j]] * levels[j]
    field[:] = 0.0
    for j in range(len(w)):
        if error[j] != 0.0:
            _add(field, hessian[j], error[j])
    total = 0.0
    for j in range(len(w)):
        total += float(error[j]) * float(field[j])
    return total


@_inline
def _add(field: Floats, row: Floats, factor: float) -> None:
    for i in range(len(field)):
        field[i] += factor * row[i]


@_inline
def _set(hessian: Floats, levels: Levels, error: Floats, field: Floats, j: int, level: int, change: float) -> None:
    """Give a weight a level, which changes its value by ``change``."""
    levels[j] = level
    error[j] -= change
    _add(field, hessian[j], -change)


@_inline
def _nearest(value: float, low: int, high: int, zero: bool) -> int:
    """The level nearest to a value; not zero unless that is allowed."""
    level = math.floor(value + 0.5)
    level = min(max(level, low), high)
    if level == 0 and not zero:
        level = 1 if value >= 0.0 else -1
        level = min(max(level, low), high)
    return level


@_compiled
def _descend(
    hessian: Floats,
    levels: Levels,
    scales: Floats,
    group: Ints,
    free: Flags,
    block: int,
    low: int,
    high: int,
    error: Floats,
    field: Floats,
) -> None:
    """Every weight in turn to its best level, until none moves."""
    for _ in range(20):
        moved = False
        for j in range(len(levels)):
            own = hessian[j, j]
            if not free[j] or (block and levels[j] == 0):
                continue
            scale = scales[group[j]]
            level = _nearest(levels[j] + field[j] / (own * scale), low, high, block == 0)
            if level == levels[j]:
                continue
            change = scale * (level - levels[j])
            if change * (change * own - 2.0 * field[j]) < -_EPS * own * scale * scale:
                _set(hessian, levels, error, field, j, level, change)
                moved = True
        if not moved:
            return


@_compiled
def _pairs(
    hessian: Floats,
    levels: Levels,
    scales: Floats,
    group: Ints,
    free: Flags,
    block: int,
    low: int,
    high: int,
    error: Floats,
    field: Floats,
) -> None:
    """Two weights at once: one a level up or down (or to zero), and the best answer of another."""
    columns = len(levels)
    for j in range(columns):
        if not free[j] or (block and levels[j] == 0):
            continue
        own, scale = hessian[j, j], scales[group[j]]
        first, last = 0, columns
        if block:
            first = j // block * block
            last = min(first + block, columns)
        for step in (-1, 1):
            level = levels[j] + step
            if block:
                if step == 1:
                    break
                level = 0
            elif level < low or level > high:
                continue
            change = scale * (level - levels[j])
            harm = change * (change * own - 2.0 * field[j])
            row = hessian[j]
            gain, other, answer = 0.0, -1, 0
            for i in range(first, last):
                if i == j or not free[i]:
                    continue
                if block and levels[i] != 0:
                    continue
                there = field[i] - change * row[i]
                size = scales[group[i]]
                if block:
                    to = _nearest(there / (hessian[i, i] * size), low, high, False)
                else:
                    to = levels[i] + (1 if there > 0.0 else -1)
                    if to < low or to > high:
                        continue
                move = size * (to - levels[i])
                saved = move * (2.0 * there - move * hessian[i, i])
                if saved > gain:
                    gain, other, answer = saved, i, to
            if other >= 0 and harm - gain < -_EPS * own * scale * scale:
                _set(hessian, levels, error, field, j, level, change)
                move = scales[group[other]] * (answer - levels[other])
                _set(hessian, levels, error, field, other, answer, move)
                break


@_compiled
def _shake(
    hessian: Floats,
    levels: Levels,
    scales: Floats,
    group: Ints,
    free: Flags,
    block: int,
    low: int,
    high: int,
    error: Floats,
    field: Floats,
    heat: float,
    random: NDArray[np.uint64],
) -> None:
    """One Metropolis sweep: every weight is offered its best level, or the next best where it has that."""
    for j in range(len(levels)):
        if not free[j] or (block and levels[j] == 0):
            continue
        own, scale = hessian[j, j], scales[group[j]]
        value = levels[j] + field[j] / (own * scale)
        level = _nearest(value, low, high, block == 0)
        if level == levels[j]:
            level += 1 if value > level else -1
        if level < low or level > high or (block and level == 0):
            continue
        change = scale * (level - levels[j])
        harm = change * (change * own - 2.0 * field[j])
        if harm <= 0.0 or draw(random) < math.exp(-harm / heat):
            _set(hessian, levels, error, field, j, level, change)


@_compiled
def _fit_scales(hessian: Floats, levels: Levels, scales: Floats, group: Ints, error: Floats, field: Floats) -> None:
    """The scale of each group that has the least error with its levels, in turn."""
    columns = len(levels)
    along = np.empty(columns, np.float32)
    for g in range(len(scales)):
        along[:] = 0.0
        slope = 0.0
        for j in range(columns):
            if group[j] == g and levels[j] != 0:
                _add(along, hessian[j], np.float32(levels[j]))
                slope += float(levels[j]) * float(field[j])
        curve = 0.0
        for j in range(columns):
            if group[j] == g:
                curve += float(levels[j]) * float(along[j])
        if curve <= 0.0:
            continue
        step = slope / curve
        if scales[g] + step <= 0.0:
            continue
        scales[g] += step
        for j in range(columns):
            if group[j] == g:
                error[j] -= step * levels[j]
        _add(field, along, -step)
