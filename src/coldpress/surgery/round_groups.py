"""A layer's weights rounded group by group: a convolution's groups read other inputs, so each has its own Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from coldpress.executors import mapped
from coldpress.surgery.leastsquares import DAMPING
from coldpress.surgery.patterns import kept_of
from coldpress.surgery.round_weights import PARTS, SWEEPS, Rounded, round_weights

CONSTANT = 1e-10
"""Least ridge, relative to the inputs' mean square: where inputs are constant, their variance is noise of the sums."""
Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Form:
    """How a layer's weights are stored.

    Attributes:
        bits: of a level, 2 to 8.
        sparsity: fraction of zeros or "n:m" (see `round_weights`); None: none are asked for.
        group_size: columns that share a scale; None: a whole row does.
    """

    bits: int
    sparsity: float | str | None = None
    group_size: int | None = None

    @property
    def label(self) -> str:
        """In words, "3 bits, 0.5 zero" say."""
        parts = [f"{self.bits} bits"]
        if self.sparsity is not None:
            parts.append(f"{self.sparsity} kept" if isinstance(self.sparsity, str) else f"{self.sparsity:g} zero")
        if self.group_size is not None:
            parts.append(f"groups of {self.group_size}")
        return ", ".join(parts)

    def bytes(self, rows: int, columns: int) -> int:
        """Bytes that a layer takes, packed: levels, fp32 scales and, of sparse weights, a bit each for where they are.

        Args:
            rows, columns: of the weight matrix.
        """
        groups = 1 if self.group_size is None else -(-columns // self.group_size)
        levels = rows * kept_of(self.sparsity, columns)
        places = rows * columns if levels < rows * columns else 0
        return -(-(levels * self.bits + places) // 8) + 4 * rows * groups


@dataclass(frozen=True)
class Search:
    """How each group is searched: ``start``, ``sweeps``, ``refine_scales`` and ``seed`` of `round_weights`."""

    start: str = "gptq"
    sweeps: int = SWEEPS
    refine_scales: bool = True
    seed: int = 0


def round_groups(
    dense: Tensor, moments: Tensor, form: Form, settings: Search, executor: Executor | None = None
) -> Rounded:
    """Round a layer's weights, the rows of each group by the group's own Hessian.

    Args:
        dense: ``(rows, columns + 1)``, the bias last; it does not count.
        moments: of the inputs, ``(columns + 1, columns + 1)``, or ``(groups, columns + 1, columns + 1)``.
        form: of the result.
        settings: of the search.
        executor: shares out the rows' search, or the groups.

    Raises:
        SurgeryError: see `round_weights`.
        TaskError: a process of the executor died.
    """
    if moments.dim() == 2:
        return _rounded(dense[:, :-1], moments, form, settings, executor)
    rows = len(dense) // len(moments)
    step = len(moments) if executor is None else -(-len(moments) // PARTS)
    jobs = (
        (dense[a * rows : (a + step) * rows, :-1].numpy(), moments[a : a + step].numpy(), form, settings, a * rows)
        for a in range(0, len(moments), step)
    )
    return _joined(list(mapped(executor, _each_group, jobs)))


def with_bias(dense: Tensor, value: Tensor, moments: Tensor) -> Tensor:
    """Rounded weights and the bias that takes up the mean of what is left, ``(rows, columns + 1)``, float64.

    Args:
        dense: the layer before, ``(rows, columns + 1)``.
        value: its weights as rounded, ``(rows, columns)``.
        moments: see `round_groups`.
    """
    stacked = moments if moments.dim() == 3 else moments[None]
    mean = stacked[:, :-1, -1] / stacked[:, -1:, -1]
    left = (dense[:, :-1] - value.double()).reshape(len(stacked), -1, value.shape[1])
    bias = dense[:, -1] + (left @ mean[:, :, None]).flatten()
    return torch.cat([value.double(), bias[:, None]], dim=1)


def covariance(moments: Tensor) -> Tensor:
    """Of a layer's inputs, ``(columns, columns)``, from moments with the constant last; with a small ridge.

    The mean does not count: a bias takes up what it brings.
    """
    seen = moments[:-1, :-1] / moments[-1, -1]
    mean = moments[:-1, -1] / moments[-1, -1]
    centred = seen - torch.outer(mean, mean)
    least = (CONSTANT * seen.diagonal().mean()).clamp_min(DAMPING * 1e-12)
    ridge = torch.maximum(DAMPING * centred.diagonal().mean(), least)
    return centred + ridge * torch.eye(len(centred), dtype=centred.dtype)


def _rounded(
    weight: Tensor, moments: Tensor, form: Form, settings: Search, executor: Executor | None = None, first: int = 0
) -> Rounded:
    return round_weights(
        weight,
        covariance(moments),
        form.bits,
        form.sparsity,
        settings.start,
        settings.sweeps,
        settings.refine_scales,
        seed=settings.seed + first,
        group_size=form.group_size,
        executor=executor,
    )


def _each_group(weight: Doubles, moments: Doubles, form: Form, settings: Search, first: int) -> Rounded:
    """Some groups' rows; in arrays, which are sent to a process as they are."""
    rows = len(weight) // len(moments)
    parts = enumerate(zip(np.split(weight, len(moments)), moments))
    return _joined(
        [
            _rounded(torch.from_numpy(part), torch.from_numpy(own), form, settings, first=first + number * rows)
            for number, (part, own) in parts
        ]
    )


def _joined(groups: Sequence[Rounded]) -> Rounded:
    levels, scales, value = (
        torch.cat([getattr(group, name) for group in groups]) for name in ("levels", "scales", "dequantized")
    )
    errors, starts = (sum(getattr(group, name) for group in groups) for name in ("error", "start_error"))
    return Rounded(levels, scales, value, errors, starts, groups[0].group_size)
