"""One-pass roundings of a layer's weights: to nearest, GPTQ, and SparseGPT's pruning and rounding in one pass.

GPTQ: Frantar et al. 2022, arXiv:2210.17323 (columns in activation order). SparseGPT: Frantar and Alistarh 2023,
arXiv:2301.00774. Both carry a column's error over to the columns that are not rounded yet.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from coldpress.errors import SurgeryError

DAMPING = 0.01
"""Ridge on the Hessian, relative to the mean of its diagonal, as in the papers."""
BLOCK = 128


def nearest(weight: Tensor, scales: Tensor, low: int, high: int) -> Tensor:
    """The levels nearest to the weights, ``(rows, columns)``.

    Args:
        weight: ``(rows, columns)``.
        scales: of each weight, ``(rows, columns)`` or ``(rows, 1)``.
        low, high: least and greatest level.
    """
    return (weight / scales).round().clamp(low, high)


class Ordered(NamedTuple):
    """The order in which columns are rounded, and how errors are carried over in it.

    Attributes:
        order: ``(columns,)``.
        root: upper Cholesky factor U of the damped Hessian's inverse in this order, U^T U = H^-1, float64.
    """

    order: Tensor
    root: Tensor


def ordered(hessian: Tensor, by_activation: bool) -> Ordered:
    """Columns of a Hessian ``(columns, columns)`` by falling diagonal, or as they are.

    Raises:
        SurgeryError: the Hessian is indefinite.
    """
    order = torch.argsort(hessian.diagonal(), descending=True) if by_activation else torch.arange(len(hessian))
    return Ordered(order, torch.linalg.cholesky(inverse(hessian.double()[order][:, order]), upper=True))


def inverse(hessian: Tensor) -> Tensor:
    """The inverse of the damped Hessian, ``(columns, columns)``.

    Raises:
        SurgeryError: the Hessian is indefinite, by more than the ridge makes up for.
    """
    lower, failed = torch.linalg.cholesky_ex(damped(hessian))
    if int(failed):
        values = torch.linalg.eigvalsh(hessian)
        raise SurgeryError(
            f"the Hessian is indefinite (eigenvalues {float(values[0]):.3g} to {float(values[-1]):.3g}); give X X^T of "
            "the layer's inputs, or add to its diagonal until no eigenvalue is negative"
        )
    return torch.cholesky_inverse(lower)


def damped(hessian: Tensor) -> Tensor:
    """A Hessian ``(columns, columns)`` with the ridge on its diagonal."""
    found = hessian.clone()
    found.diagonal().add_(DAMPING * hessian.diagonal().mean().clamp_min(1e-12))
    return found


def one_pass(
    weight: Tensor,
    columns: Ordered,
    scales: Tensor,
    low: int,
    high: int,
    sparsity: float | tuple[int, int] | None = None,
) -> Tensor:
    """Levels ``(rows, columns)`` by GPTQ; with ``sparsity`` by SparseGPT.

    Args:
        weight: ``(rows, columns)``.
        columns: by activation for GPTQ, as they are for SparseGPT.
        scales: of each weight, ``(rows, columns)`` or ``(rows, 1)``.
        low, high: least and greatest level.
        sparsity: fraction of zeros (chosen in blocks of 128 columns), or (n, m): n of m neighbours are not zero.
    """
    (order, root), count = columns, weight.shape[1]
    left = weight.double()[:, order].clone()
    steps = scales.expand_as(weight).double()[:, order]
    levels = torch.zeros_like(left)
    block = BLOCK if not isinstance(sparsity, tuple) else sparsity[1]
    zero = torch.zeros_like(left, dtype=torch.bool)
    for start in range(0, count, block):
        end = min(start + block, count)
        if sparsity is not None:
            zero[:, start:end] = _pruned(left[:, start:end], root.diagonal()[start:end], sparsity)
        carried = torch.zeros_like(left[:, start:end])
        for j in range(start, end):
            value = left[:, j]
            level = (value / steps[:, j]).round().clamp(low, high).masked_fill(zero[:, j], 0.0)
            levels[:, j] = level
            carried[:, j - start] = (value - level * steps[:, j]) / root[j, j]
            left[:, j:end] -= torch.outer(carried[:, j - start], root[j, j:end])
        left[:, end:] -= carried @ root[start:end, end:]
    found = torch.empty_like(levels)
    found[:, order] = levels
    return found


def _pruned(weight: Tensor, root: Tensor, sparsity: float | tuple[int, int]) -> Tensor:
    """Which weights of a block go: those whose loss, w^2 / [H^-1]_jj as the root tells it, is least."""
    scores = (weight / root).square()
    if isinstance(sparsity, tuple):
        keep, of = sparsity
        gone = torch.zeros_like(scores, dtype=torch.bool)
        if scores.shape[1] == of:
            gone.scatter_(1, scores.argsort(dim=1)[:, : of - keep], True)
        return gone
    count = round(sparsity * scores.numel())
    gone = torch.zeros(scores.numel(), dtype=torch.bool)
    gone[scores.flatten().argsort()[:count]] = True
    return gone.view_as(scores)
