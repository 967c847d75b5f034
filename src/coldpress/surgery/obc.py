"""Optimal Brain Compression: a layer's weights pruned and rounded one by one, always the one of least harm.

Frantar and Alistarh 2022, arXiv:2208.11580. With P the inverse Hessian over the weights of a row that are still free,
to fix weight p at a value v costs (w_p - v)^2 / P_pp and moves the others by -P_:p (w_p - v) / P_pp; then p's row and
column leave P. Rows share the Hessian and nothing else: d columns cost d^3 / 3 multiplications a row.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import heapq
from typing import NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coldpress.errors import SurgeryError
from coldpress.surgery.rounding_starts import inverse

MOST_STEPS = 2 * 10**11
"""Rows times the cube of columns, at most: minutes on a core."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_compiled = numba.njit(cache=True, nogil=True, fastmath=True)


class _Row(NamedTuple):
    """A row of weights; the first ``count`` places are free, those behind are fixed.

    ``column`` tells the column at each place and ``place`` the place of each column; ``inverse`` is P, by places.
    """

    weight: Floats
    inverse: Floats
    column: Ints
    place: Ints


def obc_pruned(weight: Tensor, hessian: Tensor, sparsity: float | tuple[int, int]) -> Tensor:
    """Weights ``(rows, columns)``, float64, of which some are zero and the others make up for them (ExactOBS).

    Args:
        weight: ``(rows, columns)``.
        hessian: ``(columns, columns)``, X X^T of the layer's inputs; a small ridge is added.
        sparsity: fraction of zeros, shared out among the rows by their harm, or (n, m): n of m neighbours stay.

    Raises:
        SurgeryError: the layer is too large.
    """
    values, inverse = _begun(weight, hessian)
    zeros = _zeros(values, inverse, sparsity)
    _fix(values, inverse, zeros, np.ones((1, 1)), 0, 0, False)
    return torch.from_numpy(values)


def obc_rounded(
    weight: Tensor,
    hessian: Tensor,
    scales: Tensor,
    low: int,
    high: int,
    sparsity: float | tuple[int, int] | None = None,
) -> Tensor:
    """Levels ``(rows, columns)``, float64 (OBQ); with ``sparsity`` weights are pruned first, then those left rounded.

    Weights beyond the grid are rounded as soon as they are there, the one that loses most first.

    Args:
        weight, hessian, sparsity: as `obc_pruned` takes them; no sparsity prunes nothing.
        scales: of each weight, ``(rows, columns)`` or ``(rows, 1)``.
        low, high: least and greatest level.

    Raises:
        SurgeryError: the layer is too large.
    """
    values, inverse = _begun(weight, hessian)
    steps = scales.detach().cpu().double().expand_as(weight).contiguous().numpy()
    zeros = np.empty((len(values), 0), np.int64) if sparsity is None else _zeros(values, inverse, sparsity)
    _fix(values, inverse, zeros, steps, low, high, True)
    return (torch.from_numpy(values) / torch.from_numpy(steps)).round()


def check_obc(rows: int, columns: int) -> None:
    """Raise SurgeryError when a layer is too large for OBC."""
    if rows * columns**3 > MOST_STEPS:
        raise SurgeryError(
            f"start is 'obc', which takes rows x columns^3 steps: for ({rows}, {columns}) that is "
            f"{rows * columns**3:.1e}, and at most {MOST_STEPS:.0e} are taken; give start 'gptq'"
        )


def _begun(weight: Tensor, hessian: Tensor) -> tuple[Floats, Floats]:
    """A copy of the weights, and the inverse of the damped Hessian."""
    check_obc(*weight.shape)
    inverted = inverse(hessian.detach().cpu().double())
    return weight.detach().cpu().double().clone().contiguous().numpy(), inverted.contiguous().numpy()


def _zeros(values: Floats, inverse: Floats, sparsity: float | tuple[int, int]) -> Ints:
    """The columns of each row that become zero, in their order, ``(rows, columns)``; -1 behind the last."""
    rows, columns = values.shape
    if isinstance(sparsity, tuple):
        keep, of = sparsity
        return _order(values, inverse, of, of - keep)[0]
    order, harm = _order(values, inverse, columns, columns)
    return _cheapest(order, harm, round(sparsity * rows * columns))


def _cheapest(order: Ints, harm: Floats, count: int) -> Ints:
    """The ``count`` weights of a layer that go where each row gives the next of its own order, the cheapest first."""
    rows, columns = order.shape
    taken = np.zeros(rows, np.int64)
    waiting = [(float(harm[r, 0]), r) for r in range(rows)]
    heapq.heapify(waiting)
    for _ in range(count):
        r = heapq.heappop(waiting)[1]
        taken[r] += 1
        if taken[r] < columns:
            heapq.heappush(waiting, (float(harm[r, taken[r]]), r))
    return np.where(np.arange(columns) < taken[:, None], order, -1)


@numba.njit(cache=True, nogil=True, fastmath=True, parallel=True)
def _order(values: Floats, inverse: Floats, block: int, most: int) -> tuple[Ints, Floats]:
    """In which order a row's weights become zero, at most so many of each block's neighbours; and what each costs."""
    rows, columns = values.shape
    order, harm = np.full((rows, columns), -1, np.int64), np.zeros((rows, columns))
    for r in numba.prange(rows):
        row = _Row(values[r].copy(), inverse.copy(), np.arange(columns), np.arange(columns))
        gone = np.zeros(columns // block, np.int64)
        for done in range(columns):
            best, least = -1, 0.0
            for j in range(columns - done):
                own = row.column[j] // block
                if own == len(gone) or gone[own] == most:
                    continue
                cost = row.weight[j] * row.weight[j] / row.inverse[j, j]
                if best < 0 or cost < least:
                    best, least = j, cost
            if best < 0:
                break
            order[r, done], harm[r, done] = row.column[best], least
            gone[row.column[best] // block] += 1
            _settle(row, columns - done, best, 0.0)
    return order, harm


@numba.njit(cache=True, nogil=True, fastmath=True, parallel=True)
def _fix(values: Floats, inverse: Floats, zeros: Ints, steps: Floats, low: int, high: int, rounds: bool) -> None:
    """Give the weights, in place, their zeros, and with ``rounds`` the others their levels times steps."""
    rows, columns = values.shape
    for r in numba.prange(rows):
        row = _Row(values[r].copy(), inverse.copy(), np.arange(columns), np.arange(columns))
        count = columns
        for z in range(zeros.shape[1]):
            if zeros[r, z] < 0:
                break
            _settle(row, count, row.place[zeros[r, z]], 0.0)
            count -= 1
        while rounds and count > 0:
            best, value = _next_level(row, count, steps[r], low, high)
            _settle(row, count, best, value)
            count -= 1
        for j in range(columns):
            values[r, row.column[j]] = row.weight[j]


@_compiled
def _next_level(row: _Row, count: int, steps: Floats, low: int, high: int) -> tuple[int, float]:
    """The place of the weight that is rounded next, and its value then."""
    best, value, least, beyond = 0, 0.0, -1.0, -1.0
    for j in range(count):
        step = steps[row.column[j]]
        level = np.rint(row.weight[j] / step)
        inside = min(max(level, low), high)
        lost = row.weight[j] - inside * step
        if inside != level:
            if abs(lost) > beyond:
                best, value, beyond = j, inside * step, abs(lost)
        elif beyond < 0.0:
            cost = lost * lost / row.inverse[j, j]
            if least < 0.0 or cost < least:
                best, value, least = j, inside * step, cost
    return best, value


@_compiled
def _settle(row: _Row, count: int, p: int, value: float) -> None:
    """Fix the weight at place p of ``count`` free ones: the others move, and it goes behind them."""
    last = count - 1
    weight, inverse, column, place = row
    weight[p], weight[last] = weight[last], weight[p]
    column[p], column[last] = column[last], column[p]
    place[column[p]], place[column[last]] = p, last
    for j in range(count):
        inverse[p, j], inverse[last, j] = inverse[last, j], inverse[p, j]
    for j in range(count):
        inverse[j, p], inverse[j, last] = inverse[j, last], inverse[j, p]
    own = inverse[last, last]
    for i in range(last):
        part = inverse[last, i] / own
        weight[i] -= part * (weight[last] - value)
        for j in range(last):
            inverse[i, j] -= part * inverse[last, j]
    weight[last] = value
