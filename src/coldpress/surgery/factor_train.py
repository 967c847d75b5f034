"""A linear layer as a tensor train of two cores: inputs and outputs are laid out as matrices, one core for each side.

Source: Novikov, Podoprikhin, Osokin and Vetrov, "Tensorizing Neural Networks", NeurIPS 2015 (there of more cores, and
without the inputs' moments). It saves bytes rather than time: the cores run over every row and column of the layout.
"""

from __future__ import annotations

from typing import Any

import torch
from tensorly.decomposition import tensor_train_matrix
from torch import Tensor, nn

from coldpress.layer_shape import LayerShape, sides
from coldpress.surgery.factorized import Factorized, pytorch_backend
from coldpress.surgery.leastsquares import centred

SWEEPS = 4
"""Rounds of alternating least squares after the start."""


class TensorTrain(Factorized):
    """Two linear cores over inputs ``(few, many)`` and outputs ``(high, low)``, see `sides`; the bias is the whole's.

    Args:
        few, many: of the inputs.
        high, low: of the outputs.
        rank: features between the cores.
        bias: whether it adds one, ``(high * low,)``.
    """

    bias: nn.Parameter | None

    def __init__(self, few: int, many: int, high: int, low: int, rank: int, bias: bool) -> None:
        super().__init__(nn.Linear(many, rank * low, bias=False), nn.Linear(few * rank, high, bias=False))
        self.few, self.many, self.high, self.low, self.rank = few, many, high, low, rank
        self.bias = nn.Parameter(torch.zeros(high * low)) if bias else None

    @classmethod
    def of(cls, shape: LayerShape) -> TensorTrain:
        """The empty train that a factorised linear layer runs as."""
        (few, many), (low, high) = sides(shape.in_channels), sides(shape.out_channels)
        return cls(few, many, high, low, shape.rank[0], shape.bias)

    @property
    def biased(self) -> nn.Module:
        """Itself: each output of the last core is a part of many outputs."""
        return self

    def describe(self) -> dict[str, Any]:
        """What it was made with, as JSON-ready data."""
        sizes = {name: getattr(self, name) for name in ("few", "many", "high", "low", "rank")}
        return sizes | {"bias": self.bias is not None}

    def forward(self, input: Tensor) -> Tensor:
        """``(..., inputs)`` to ``(..., outputs)``."""
        lead = input.shape[:-1]
        first, second = self
        middle = first(input.reshape(*lead, self.few, self.many)).reshape(*lead, self.few, self.rank, self.low)
        columns = middle.movedim(-1, -3).flatten(-2)  # (..., low, few * rank)
        output: Tensor = second(columns).transpose(-1, -2).flatten(-2)
        return output if self.bias is None else output + self.bias


def fit_train(weight: Tensor, moments: Tensor, rank: int) -> list[Tensor]:
    """Cores of a linear layer, as `coldpress.surgery.factorize.factor_weights` returns them.

    The start is the train of the weights, whitened by a Kronecker product near the inputs' covariance; then each core
    in turn is fitted to the outputs by least squares under the covariance itself.
    """
    plain, covariance, mean_output = centred(weight, moments)
    (few, many), (high, low) = sides(plain.shape[1]), sides(len(plain))[::-1]
    inner = covariance.reshape(few, many, few, many)
    roots = [_root(torch.einsum("aibi->ab", inner)), _root(torch.einsum("iaib->ab", inner))]
    tensor = torch.einsum("hlab,ac,bd->hlcd", plain.reshape(high, low, few, many), *roots)
    with pytorch_backend():
        left, right = tensor_train_matrix(tensor, (1, rank, 1)).factors
    second = torch.einsum("hcr,ca->har", left[0], torch.linalg.inv(roots[0]))
    first = torch.einsum("rld,db->rlb", right[..., 0], torch.linalg.inv(roots[1]))
    carried = (plain @ covariance).reshape(high, low, few, many)  # what the outputs have in common with the inputs
    for _ in range(SWEEPS):
        second = _fit_second(first, inner, carried)
        first = _fit_first(second, inner, carried)
    scale = (second.square().mean().clamp_min(1e-30) / first.square().mean().clamp_min(1e-30)).sqrt().sqrt()
    first, second = first * scale, second / scale
    found = torch.einsum("har,rlb->hlab", second, first).reshape_as(plain)
    bias = mean_output - found @ (moments[:-1, -1] / moments[-1, -1])
    parts = first.reshape(rank * low, many), second.reshape(high, few * rank)
    return [*(part[:, :, None, None] for part in parts), bias]


def dense_train(parts: list[Tensor], outputs: int) -> Tensor:
    """The linear layer's weight ``(outputs, inputs, 1, 1)`` that its cores multiply out to."""
    first, second = (part[:, :, 0, 0] for part in parts)
    low = outputs // len(second)
    rank = len(first) // low
    cores = second.reshape(len(second), -1, rank), first.reshape(rank, low, -1)
    return torch.einsum("har,rlb->hlab", *cores).reshape(outputs, -1, 1, 1)


def _fit_second(first: Tensor, inner: Tensor, carried: Tensor) -> Tensor:
    """The core ``(high, few, rank)`` of least output error beside ``first`` ``(rank, low, many)``."""
    pairs = torch.einsum("rlb,sld->rbsd", first, first)  # contracted first: the rest is one product of matrices
    normal = torch.einsum("abcd,rbsd->arcs", inner, pairs)
    right = torch.einsum("hlab,rlb->har", carried, first)
    return _solved(normal.flatten(2).flatten(0, 1), right.flatten(1).T).T.reshape(right.shape)


def _fit_first(second: Tensor, inner: Tensor, carried: Tensor) -> Tensor:
    """The core ``(rank, low, many)`` of least output error beside ``second`` ``(high, few, rank)``."""
    pairs = torch.einsum("har,hcs->arcs", second, second)
    normal = torch.einsum("abcd,arcs->rbsd", inner, pairs)
    right = torch.einsum("hlab,har->rbl", carried, second)
    return _solved(normal.flatten(2).flatten(0, 1), right.flatten(0, 1)).reshape(right.shape).transpose(1, 2)


def _solved(normal: Tensor, right: Tensor) -> Tensor:
    ridge = 1e-8 * normal.diagonal().mean().clamp_min(1e-30)
    factor = torch.linalg.cholesky(normal + ridge * torch.eye(len(normal), dtype=normal.dtype))
    return torch.cholesky_solve(right, factor)


def _root(side: Tensor) -> Tensor:
    ridge = 1e-8 * side.diagonal().mean().clamp_min(1e-30)
    return torch.linalg.cholesky(side + ridge * torch.eye(len(side), dtype=side.dtype))
