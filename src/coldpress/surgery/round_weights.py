"""Every weight of a layer to a level of a small grid, or to zero, by search: the layer's output error is minimised.

Row by row this is a quadratic unconstrained problem over integers, and all rows share one Hessian, H = X X^T: the
one-pass roundings of the field are where it starts, coordinate and pair descent and annealing are where it ends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coldpress.errors import SurgeryError
from coldpress.executors import mapped
from coldpress.surgery._levels import Layer, search
from coldpress.surgery.obc import check_obc, obc_rounded
from coldpress.surgery.patterns import Pattern, pattern_of, smallest
from coldpress.surgery.rounding_starts import Ordered, nearest, one_pass, ordered

STARTS = ("gptq", "nearest", "obc")
SWEEPS = 24
HOTTEST, COLDEST = 0.5, 0.02
Solution = tuple[Tensor, Tensor]
Floats = NDArray[np.float32]
PARTS = 8
"""Runs of rows that an executor searches."""
LEAST = 1e-18
"""Of the largest diagonal entry: a column of less counts as never fed, for the search divides in single precision."""
SHRINKS = tuple(np.linspace(0.45, 1.0, 12))


@dataclass(frozen=True)
class Rounded:
    """A layer's weights as small integers.

    Attributes:
        levels: ``(rows, columns)`` int8, from -2^(bits - 1) to 2^(bits - 1) - 1.
        scales: ``(rows, 1)``, or ``(rows, groups)``, float32.
        dequantized: levels times scales, ``(rows, columns)`` float32: their product in float32, to the bit.
        error: tr (W - Q) H (W - Q)^T.
        start_error: the same of the start, on the scales that were given or that span each row's range.
        group_size: columns that share a scale; a row's last group may have fewer.
    """

    levels: Tensor
    scales: Tensor
    dequantized: Tensor
    error: float
    start_error: float
    group_size: int

    def __reduce__(self) -> tuple[Any, ...]:
        """To another process as arrays: torch hands tensors over as open files, of which there may be only so many."""
        arrays = (self.levels.numpy(), self.scales.numpy(), self.dequantized.numpy())
        return _of_arrays, (arrays, (self.error, self.start_error, self.group_size))


def _of_arrays(arrays: Sequence[NDArray[Any]], facts: tuple[float, float, int]) -> Rounded:
    levels, scales, value = (torch.from_numpy(array) for array in arrays)
    return Rounded(levels, scales, value, *facts)


def round_weights(
    weight: Tensor,
    hessian: Tensor,
    bits: int = 4,
    sparsity: float | str | None = None,
    start: str = "gptq",
    sweeps: int = SWEEPS,
    refine_scales: bool = True,
    scales: Tensor | None = None,
    seed: int | None = None,
    group_size: int | None = None,
    executor: Executor | None = None,
) -> Rounded:
    """Round a layer's weights so that its output changes least, and never more than by the start.

    From the start (GPTQ in activation order; with sparsity SparseGPT, which prunes and rounds in one pass) each row
    goes through sweeps of annealing and of descent: one weight to its best level, two weights at once, a zero and
    another weight swapped. With ``refine_scales`` each row's scale is fitted together with its levels.

    Args:
        weight: ``(rows, columns)``; a convolution's is flattened, ``weight.flatten(1)``.
        hessian: ``(columns, columns)``, X X^T of the layer's inputs, or its mean over samples.
        bits: 2 to 8; levels are from -2^(bits - 1) to 2^(bits - 1) - 1.
        sparsity: fraction of zeros, in [0, 1), or "n:m", n weights of each m neighbours that are not zero.
        start: "gptq"; "nearest" (round to nearest; the smallest weights go where there is sparsity); or "obc" (Optimal
            Brain Compression: weights one by one, the least harm first; better than GPTQ, for small layers only).
        sweeps: of the search; 0 gives the start itself.
        refine_scales: whether scales are chosen and fitted; else they stay as given.
        scales: ``(rows, 1)`` or ``(rows, groups)``, above 0; by default each row's (or group's) range is spanned.
        seed: of the annealing; None is 0.
        group_size: columns that share a scale; None: the whole row does.
        executor: of processes (see `coldpress.executors.open_executor`) that share out the rows' search; each run of
            rows under way takes a copy of the Hessian in single precision. What is found does not depend on it.

    Raises:
        TaskError: a process of the executor died.
        SurgeryError: shapes do not fit, a value is not finite or out of its range, the Hessian is not symmetric or is
            indefinite, or the layer is too large for the start.

    Example:
        >>> x = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
        >>> w = torch.randn(8, 64, generator=torch.Generator().manual_seed(1))
        >>> found = round_weights(w, x @ x.T, bits=3, refine_scales=False)
        >>> found.error < found.start_error
        True
    """
    weight, hessian = weight.detach().cpu().double(), hessian.detach().cpu().double()
    pattern = _checked(weight, hessian, bits, sparsity, start, sweeps)
    group = _groups(weight.shape[1], group_size, scales)
    symmetric = 0.5 * (hessian + hessian.T)
    target = weight.masked_fill(~_fed(symmetric), 0.0)  # what is never fed does not matter
    layer = _Layer(target, symmetric, group, pattern, -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    grid = layer.spanning() if scales is None else _given(scales, len(weight), int(group.max()) + 1)
    levels = layer.begun(start, grid)
    start_error = float(layer.errors(levels, grid).sum())
    if sweeps:
        if refine_scales:
            other = layer.shrunk(grid)
            levels, grid = layer.better((levels, grid), (layer.begun(start, other), other))
        found = layer.searched(levels, grid, _schedule(sweeps), refine_scales, seed or 0, executor)
        levels, grid = layer.better((levels, grid), found)
    error = float(layer.errors(levels, grid).sum())
    value, own = levels * grid[:, group], int((group == 0).sum())
    return Rounded(levels.to(torch.int8), grid.float(), value.float(), error, start_error, own)


@dataclass(frozen=True)
class _Layer:
    """What is rounded: weights ``(rows, columns)``, Hessian, each column's group, and the levels allowed."""

    weight: Tensor
    hessian: Tensor
    group: Tensor
    pattern: Pattern
    low: int
    high: int

    def errors(self, levels: Tensor, grid: Tensor) -> Tensor:
        """Each row's (w - q) H (w - q)^T, ``(rows,)``."""
        left = self.weight - levels * grid[:, self.group]
        return ((left @ self.hessian) * left).sum(dim=1)

    def better(self, one: Solution, other: Solution) -> Solution:
        """Row by row the levels and scales of less error, the first where they are equal."""
        gains = (self.errors(*other) < self.errors(*one))[:, None]
        return torch.where(gains, other[0], one[0]), torch.where(gains, other[1], one[1])

    def spanning(self) -> Tensor:
        """Scales whose grid reaches each group's largest weight, ``(rows, groups)``."""
        groups = range(int(self.group.max()) + 1)
        largest = [self.weight[:, self.group == g].abs().amax(dim=1) for g in groups]
        return _single(torch.stack(largest, dim=1).clamp_min(1e-12) / self.high)

    def shrunk(self, grid: Tensor) -> Tensor:
        """Scales shrunk to the least error of rounding to nearest, weighted by the diagonal, group by group."""
        importance = self.hessian.diagonal().clamp_min(0.0)
        found, least = grid.clone(), torch.full_like(grid, float("inf"))
        for shrink in SHRINKS:
            scales = (shrink * grid)[:, self.group]
            lost = importance * (self.weight - nearest(self.weight, scales, self.low, self.high) * scales).square()
            harm = torch.zeros_like(grid).index_add_(1, self.group, lost)
            found = torch.where(harm < least, shrink * grid, found)
            least = torch.minimum(harm, least)
        return _single(found)

    @cached_property
    def alive(self) -> Tensor:
        """The Hessian with a mean diagonal where a column is never fed."""
        own = self.hessian.diagonal()
        return self.hessian + torch.diag((~_fed(self.hessian)).double() * own.mean().clamp_min(1e-12))

    @cached_property
    def columns(self) -> Ordered:
        """How the one-pass roundings go through the columns."""
        return ordered(self.alive, by_activation=self.pattern is None)

    def begun(self, start: str, grid: Tensor) -> Tensor:
        """The levels of a one-pass rounding, ``(rows, columns)``."""
        scales = grid[:, self.group]
        if start == "obc":
            return obc_rounded(self.weight, self.alive, scales, self.low, self.high, self.pattern)
        if start == "gptq":
            return one_pass(self.weight, self.columns, scales, self.low, self.high, self.pattern)
        levels = nearest(self.weight, scales, self.low, self.high)
        if self.pattern is None:
            return levels
        return levels.masked_fill(smallest(self.weight.abs() * self.alive.diagonal().sqrt(), self.pattern), 0.0)

    def searched(
        self, levels: Tensor, grid: Tensor, heats: Floats, refine: bool, seed: int, executor: Executor | None
    ) -> Solution:
        """Levels and scales after the search, by runs of rows where there is an executor: a row's seed is its own."""
        found, scales, weight = levels.to(torch.int16).numpy(), grid.float().numpy(), self.weight.float().numpy()
        columns = self.weight.shape[1]
        block = 0 if self.pattern is None else self.pattern[1] if isinstance(self.pattern, tuple) else columns
        shared = Layer(
            _scaled(self.hessian).float().numpy(),
            self.group.to(torch.int32).numpy(),
            _fed(self.hessian).numpy(),
            block,
            self.low,
            self.high,
        )
        step = len(weight) if executor is None else -(-len(weight) // PARTS)
        jobs = (
            (weight[a : a + step], shared, found[a : a + step], scales[a : a + step], heats, refine, seed + a)
            for a in range(0, len(weight), step)
        )
        parts = list(mapped(executor, _searched, jobs))
        rows, own = (np.concatenate(arrays) for arrays in zip(*parts))
        return torch.from_numpy(rows).double(), torch.from_numpy(own).double()


def _searched(
    weight: Floats, shared: Layer, levels: NDArray[np.int16], scales: Floats, heats: Floats, refine: bool, seed: int
) -> tuple[NDArray[np.int16], Floats]:
    """Levels and scales of a run of rows after the search."""
    found, grid = levels.copy(), scales.copy()
    search(weight, shared, found, grid, heats, refine, seed)
    return found, grid


def _fed(hessian: Tensor) -> Tensor:
    """Which columns count, ``(columns,)``."""
    own = hessian.diagonal()
    return own > LEAST * own.max()


def _scaled(hessian: Tensor) -> Tensor:
    """The Hessian over a power of two, which changes no digit, so that its largest diagonal entry is 1 to 2."""
    return hessian / 2.0 ** (math.frexp(float(hessian.diagonal().max()))[1] - 1)


def _schedule(sweeps: int) -> Floats:
    """Temperatures: descent first and last, and between them annealing that cools, with descents in between."""
    heats = np.zeros(sweeps, np.float32)
    hot = [i for i in range(2, sweeps - 1) if i % 3]
    heats[hot] = np.geomspace(HOTTEST, COLDEST, len(hot)) if hot else []
    return heats


def _groups(columns: int, size: int | None, scales: Tensor | None) -> Tensor:
    """The scale that each column belongs to, ``(columns,)``."""
    if size is None and scales is not None and scales.dim() == 2 and scales.shape[1] > 1:
        size = -(-columns // scales.shape[1])
    if size is not None and size < 1:
        raise SurgeryError(f"group_size is {size}; it must be 1 or more columns")
    return torch.arange(columns) // (columns if size is None else size)


def _given(scales: Tensor, rows: int, groups: int) -> Tensor:
    found = scales.detach().cpu().double()
    if found.shape != (rows, groups) or not bool((found > 0).all() and found.isfinite().all()):
        raise SurgeryError(f"scales are {tuple(scales.shape)}; they must be ({rows}, {groups}), finite and above 0")
    return _single(found)


def _single(scales: Tensor) -> Tensor:
    """Scales as float32 can hold them, in float64: what is stored is what was searched."""
    return scales.float().double()


def _checked(
    weight: Tensor, hessian: Tensor, bits: int, sparsity: float | str | None, start: str, sweeps: int
) -> Pattern:
    """The sparsity as a fraction or a pattern; raises SurgeryError for what cannot be rounded."""
    if weight.dim() != 2 or 0 in weight.shape:
        raise SurgeryError(f"weight is {tuple(weight.shape)}; it must be (rows, columns): flatten a convolution's")
    columns = weight.shape[1]
    if hessian.shape != (columns, columns):
        raise SurgeryError(f"hessian is {tuple(hessian.shape)}; for this weight it must be ({columns}, {columns})")
    for name, tensor in (("weight", weight), ("hessian", hessian)):
        if not bool(tensor.isfinite().all()):
            raise SurgeryError(f"{name} holds NaN or Inf; look at the model and its calibration data")
    scale = float(hessian.abs().max())
    if float((hessian - hessian.T).abs().max()) > 1e-4 * scale or float(hessian.diagonal().min()) < -1e-6 * scale:
        raise SurgeryError("hessian is not a matrix X X^T: it must be symmetric, with no negative diagonal")
    if bits not in range(2, 9):
        raise SurgeryError(f"bits is {bits}; it must be from 2 to 8")
    if start not in STARTS:
        raise SurgeryError(f"start is {start!r}; choose {', '.join(STARTS)}")
    if start == "obc":
        check_obc(*weight.shape)
    if sweeps < 0:
        raise SurgeryError(f"sweeps is {sweeps}; it must be 0 or more")
    return pattern_of(sparsity, columns)
