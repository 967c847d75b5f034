"""Compiled search over the levels of a layer's weights: each row by itself, its field H (w - q) kept up to date.

A row's error is e^T H e with e = w - q and q = scale * level. Changing q_j by d changes it by d (d H_jj - 2 g_j), where
g = H e; so a move is looked at in constant time, and made in the time of one row of H.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import math
from typing import NamedTuple

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
_TWO, _NONE = np.float32(2.0), np.float32(0.0)
_REFRESH = 6
"""Sweeps after which a field is computed anew: in single precision its sums drift."""


class Layer(NamedTuple):
    """What all rows share.

    Attributes:
        hessian: ``(columns, columns)``, symmetric.
        group: ``(columns,)`` the scale of each column.
        free: ``(columns,)`` whether a column's weights matter at all; the others stay.
        block: 0 for dense weights; else zeros move, within blocks of so many neighbours (all columns: anywhere).
        low, high: least and greatest level.
    """

    hessian: Floats
    group: Ints
    free: Flags
    block: int
    low: int
    high: int


class _Row(NamedTuple):
    """One row while it is searched; all arrays ``(columns,)`` but the scales.

    ``rise`` and ``fall`` are the change of a level up and down, 0 where that is not allowed, and ``own`` the harm that
    either does by itself; ``room`` is 1 / H_jj of the zeros of sparse weights that may come back, else 0.
    """

    weight: Floats
    levels: Levels
    scales: Floats
    error: Floats
    field: Floats
    rise: Floats
    fall: Floats
    own: Floats
    room: Floats


@numba.njit(cache=True, nogil=True, fastmath=True, parallel=True)
def search(
    weight: Floats, layer: Layer, levels: Levels, scales: Floats, temperatures: Floats, refine: bool, seed: int
) -> None:
    """Improve levels (and scales) in place; a row never ends with more error than it had.

    Args:
        weight: ``(rows, columns)``.
        layer: what the rows share.
        levels: ``(rows, columns)``; zeros stay as many as they are where ``layer.block`` is not 0.
        scales: ``(rows, groups)``.
        temperatures: of the sweeps, as fractions of the row's mean error a weight; 0 descends.
        refine: whether scales are fitted too.
        seed: of the annealing.
    """
    for r in numba.prange(weight.shape[0]):
        _search_row(weight[r], layer, levels[r], scales[r], temperatures, refine, seed + r)


@_compiled
def _search_row(
    weight: Floats, layer: Layer, levels: Levels, scales: Floats, temperatures: Floats, refine: bool, seed: int
) -> None:
    columns = len(weight)
    random = np.empty(1, np.uint64)
    random[0] = np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15) | np.uint64(1)
    space = np.zeros((6, columns), np.float32)
    row = _Row(weight, levels, scales, space[0], space[1], space[2], space[3], space[4], space[5])
    best_levels, best_scales = levels.copy(), scales.copy()
    _refresh(layer, row)
    best = _error(row)
    for t in range(len(temperatures)):
        heat = temperatures[t] * best / columns
        if heat > 0.0:
            _shake(layer, row, heat, random)
        else:
            _descend(layer, row)
            if layer.block:
                _swaps(layer, row)
            else:
                _pairs(layer, row)
            if refine:
                _fit_scales(layer, row)
        if t % _REFRESH == _REFRESH - 1:
            _refresh(layer, row)
        now = _error(row)
        if now < best:
            best = now
            best_levels[:] = levels
            best_scales[:] = scales
    levels[:] = best_levels
    scales[:] = best_scales


@_compiled
def _refresh(layer: Layer, row: _Row) -> None:
    """Error and field from the levels."""
    for j in range(len(row.weight)):
        row.error[j] = row.weight[j] - row.scales[layer.group[j]] * row.levels[j]
    row.field[:] = _NONE
    for j in range(len(row.weight)):
        if row.error[j] != 0.0:
            _add(row.field, layer.hessian[j], row.error[j])


@_inline
def _error(row: _Row) -> float:
    total = 0.0
    for j in range(len(row.error)):
        total += float(row.error[j]) * float(row.field[j])
    return total


@_inline
def _add(field: Floats, column: Floats, factor: float) -> None:
    for i in range(len(field)):
        field[i] += factor * column[i]


@_inline
def _set(layer: Layer, row: _Row, j: int, level: int) -> None:
    """Give a weight a level."""
    change = row.scales[layer.group[j]] * np.float32(level - row.levels[j])
    row.levels[j] = level
    row.error[j] -= change
    _add(row.field, layer.hessian[j], -change)


@_inline
def _nearest(value: float, low: int, high: int, zero: bool) -> int:
    """The level nearest to a value; not zero unless that is allowed."""
    level = math.floor(value + 0.5)
    level = min(max(level, low), high)
    if level == 0 and not zero:
        level = 1 if value >= 0.0 else -1
        level = min(max(level, low), high)
    return level


@_inline
def _fixed(layer: Layer, row: _Row, j: int) -> bool:
    """Whether a weight keeps its level: it does not matter, or it is a zero of sparse weights."""
    return not layer.free[j] or (layer.block != 0 and row.levels[j] == 0)


@_compiled
def _descend(layer: Layer, row: _Row) -> None:
    """Every weight in turn to its best level, until none moves."""
    for _ in range(20):
        moved = False
        for j in range(len(row.levels)):
            if _fixed(layer, row, j):
                continue
            own, scale = layer.hessian[j, j], row.scales[layer.group[j]]
            level = _nearest(row.levels[j] + row.field[j] / (own * scale), layer.low, layer.high, layer.block == 0)
            if level == row.levels[j]:
                continue
            change = scale * (level - row.levels[j])
            if change * (change * own - 2.0 * row.field[j]) < -_EPS * own * scale * scale:
                _set(layer, row, j, level)
                moved = True
        if not moved:
            return


@_compiled
def _pairs(layer: Layer, row: _Row) -> None:
    """Two weights at once: one a level up or down, and the best answer of another, if any gains, by a level too."""
    columns = len(row.levels)
    for j in range(columns):
        _limits(layer, row, j)
    for j in range(columns):
        if not layer.free[j]:
            continue
        scale = row.scales[layer.group[j]]
        for step in (-1, 1):
            change = row.rise[j] if step == 1 else -row.fall[j]
            if change == _NONE:
                continue
            harm = change * (change * layer.hessian[j, j] - _TWO * row.field[j])
            row.rise[j] = row.fall[j] = _NONE  # it does not answer itself
            gain = _best_answer(layer.hessian[j], row, change)
            if harm - gain < -_EPS * layer.hessian[j, j] * scale * scale:
                other, answer = _answer(layer.hessian[j], row, change)
                _set(layer, row, j, row.levels[j] + step)
                _set(layer, row, other, row.levels[other] + answer)
                _limits(layer, row, other)
                _limits(layer, row, j)
                break
            _limits(layer, row, j)


@_inline
def _limits(layer: Layer, row: _Row, j: int) -> None:
    """How far a weight's value may go from where it is."""
    scale = row.scales[layer.group[j]] if layer.free[j] else _NONE
    row.rise[j] = scale if row.levels[j] < layer.high else _NONE
    row.fall[j] = scale if row.levels[j] > layer.low else _NONE
    row.own[j] = scale * scale * layer.hessian[j, j]


@_compiled
def _best_answer(column: Floats, row: _Row, change: float) -> float:
    """The most that a weight's level up or down saves once another's value has changed, or 0; without branches."""
    gain = _NONE
    for i in range(len(column)):
        there = row.field[i] - change * column[i]
        step = row.rise[i] if there > _NONE else row.fall[i]
        gain = max(gain, _TWO * abs(there) * step - row.own[i])
    return float(gain)


@_compiled
def _answer(column: Floats, row: _Row, change: float) -> tuple[int, int]:
    """The weight of the best answer, and its step; 0 where none gains."""
    gain, other, answer = 0.0, 0, 0
    for i in range(len(column)):
        there = row.field[i] - change * column[i]
        step = row.rise[i] if there > _NONE else row.fall[i]
        saved = _TWO * abs(there) * step - row.own[i]
        if step > _NONE and saved > gain:
            gain, other, answer = saved, i, (1 if there > _NONE else -1)
    return other, answer


@_compiled
def _swaps(layer: Layer, row: _Row) -> None:
    """A weight of sparse ones to zero, and the best of the zeros in its block in its stead."""
    columns = len(row.levels)
    for j in range(columns):
        row.room[j] = np.float32(1.0) / layer.hessian[j, j] if layer.free[j] and row.levels[j] == 0 else _NONE
    for j in range(columns):
        if _fixed(layer, row, j):
            continue
        own, scale = layer.hessian[j, j], row.scales[layer.group[j]]
        first = j // layer.block * layer.block
        last = min(first + layer.block, columns)
        change = scale * np.float32(-row.levels[j])
        harm = change * (change * own - _TWO * row.field[j])
        if harm >= _most_saved(layer.hessian[j], row, change, first, last):
            continue
        gain, other, answer = 0.0, -1, 0
        for i in range(first, last):
            if row.room[i] == _NONE:
                continue
            there, size = row.field[i] - change * layer.hessian[j, i], row.scales[layer.group[i]]
            level = _nearest(there * row.room[i] / size, layer.low, layer.high, False)
            move = size * level
            saved = move * (2.0 * there - move * layer.hessian[i, i])
            if saved > gain:
                gain, other, answer = saved, i, level
        if other >= 0 and harm - gain < -_EPS * own * scale * scale:
            _set(layer, row, j, 0)
            _set(layer, row, other, answer)
            row.room[j], row.room[other] = np.float32(1.0) / own, _NONE


@_compiled
def _most_saved(column: Floats, row: _Row, change: float, first: int, last: int) -> float:
    """What a zero's return could save at most, were its value free."""
    most = _NONE
    for i in range(first, last):
        there = row.field[i] - change * column[i]
        most = max(most, there * there * row.room[i])
    return float(most)


@_compiled
def _shake(layer: Layer, row: _Row, heat: float, random: NDArray[np.uint64]) -> None:
    """One Metropolis sweep: every weight is offered its best level, or the next best where it has that."""
    for j in range(len(row.levels)):
        if _fixed(layer, row, j):
            continue
        own, scale = layer.hessian[j, j], row.scales[layer.group[j]]
        value = row.levels[j] + row.field[j] / (own * scale)
        level = _nearest(value, layer.low, layer.high, layer.block == 0)
        if level == row.levels[j]:
            level += 1 if value > level else -1
        if level < layer.low or level > layer.high or (layer.block and level == 0):
            continue
        change = scale * (level - row.levels[j])
        harm = change * (change * own - 2.0 * row.field[j])
        if harm <= 0.0 or draw(random) < math.exp(-harm / heat):
            _set(layer, row, j, level)


@_compiled
def _fit_scales(layer: Layer, row: _Row) -> None:
    """The scale of each group that has the least error with its levels, in turn."""
    columns = len(row.levels)
    along = np.empty(columns, np.float32)
    for g in range(len(row.scales)):
        along[:] = _NONE
        slope = 0.0
        for j in range(columns):
            if layer.group[j] == g and row.levels[j] != 0:
                _add(along, layer.hessian[j], np.float32(row.levels[j]))
                slope += float(row.levels[j]) * float(row.field[j])
        curve = 0.0
        for j in range(columns):
            if layer.group[j] == g:
                curve += float(row.levels[j]) * float(along[j])
        if curve <= 0.0:
            continue
        step = slope / curve
        if row.scales[g] + step <= 0.0:
            continue
        row.scales[g] += step
        for j in range(columns):
            if layer.group[j] == g:
                row.error[j] -= step * row.levels[j]
        _add(row.field, along, -step)
