"""One layer as the runtime sees it, and the smaller layers that it runs as when it is factorised.

Nothing here knows of torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

Method = Literal["dense", "svd", "spatial", "tucker", "cp", "tensor-train"]

MORE_METHODS: tuple[Method, ...] = ("cp", "tensor-train")
"""Factorisations that are options only where they are asked for."""


@cache
def sides(features: int) -> tuple[int, int]:
    """Features laid out as a matrix as near to a square as they divide: its shorter and its longer side."""
    shorter = next(n for n in range(math.isqrt(features), 0, -1) if features % n == 0)
    return shorter, features // shorter


@dataclass(frozen=True)
class LayerShape:
    """One convolution, linear layer or table of embeddings as the runtime sees it, with its factorisation and its bits.

    Attributes:
        kind: "conv", "linear" or "embedding".
        in_channels, out_channels: widths (features for a linear; rows and features of a table).
        kernel, stride, padding, dilation: ``(height, width)`` pairs; unused by a linear.
        groups: convolution groups.
        input_size: spatial size of the input for one sample; else ``(positions, 1)``.
        bias: whether the layer adds a bias.
        method: "dense", or the factorisation: "svd" (k x k to r, then 1 x 1; for a linear in to r to out; for a table
            one of r features, then a linear), "spatial" (k x 1 to r, then 1 x k), "tucker" (1 x 1 to r0, k x k to r1,
            1 x 1 to out), "cp" (1 x 1 to r, k x k of each channel alone, 1 x 1 to out), "tensor-train" (of a linear:
            two cores over inputs and outputs laid out as matrices, see `sides`).
        rank: ``(r0, r1)`` for tucker, ``()`` for dense, else ``(r,)``.
        bits: 32 (fp32) or 8 (int8; of a table only the stored rows).
        dynamic: of int8: the range of the inputs is that of each run, not one for all; the outputs are floats.
        calls: how often one run calls the layer, whose weights are stored once.
        tokens: of a table whose rows are shared: how many tokens it is for; 0 where each has a row of its own.
    """

    kind: Literal["conv", "linear", "embedding"]
    in_channels: int
    out_channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    input_size: tuple[int, int] = (1, 1)
    bias: bool = True
    method: Method = "dense"
    rank: tuple[int, ...] = ()
    bits: int = 32
    dynamic: bool = False
    calls: int = 1
    tokens: int = 0

    def factors(self) -> tuple[LayerShape, ...]:
        """The dense layers that this layer runs as: itself when dense, else two or three."""
        if self.method == "dense":
            return (self,)
        plain, r = replace(self, method="dense", rank=()), self.rank[-1]
        if self.kind == "embedding":
            widened = replace(plain, kind="linear", in_channels=r, bits=32, bias=True, tokens=0)
            return (replace(plain, out_channels=r), widened)
        last = replace(plain, in_channels=r, kernel=(1, 1), stride=(1, 1), padding=(0, 0), dilation=(1, 1))
        first = replace(plain, out_channels=r, bias=False)
        if self.method == "tensor-train":
            return self._cores()
        if self.kind == "linear":
            return (first, last)
        if self.method == "spatial":
            columns = replace(self._along(0), out_channels=r, bias=False)
            return (columns, replace(self._along(1), in_channels=r, input_size=columns.output_size))
        if self.method == "svd":
            return (first, replace(last, input_size=first.output_size))
        narrow = replace(last, in_channels=self.in_channels, out_channels=self.rank[0], bias=False)
        core = replace(first, in_channels=self.rank[0], groups=r if self.method == "cp" else 1)
        return (narrow, core, replace(last, input_size=core.output_size))

    def _along(self, axis: int) -> LayerShape:
        """The layer with its kernel's other axis left out."""

        def own(pair: tuple[int, int], rest: int) -> tuple[int, int]:
            return (pair[0], rest) if axis == 0 else (rest, pair[1])

        return replace(
            self,
            method="dense",
            rank=(),
            kernel=own(self.kernel, 1),
            stride=own(self.stride, 1),
            padding=own(self.padding, 0),
            dilation=own(self.dilation, 1),
        )

    def _cores(self) -> tuple[LayerShape, LayerShape]:
        (few, many), (high, low) = sides(self.in_channels), sides(self.out_channels)[::-1]
        plain, r = replace(self, method="dense", rank=(), bias=False), self.rank[0]
        positions = math.prod(self.input_size)
        first = replace(plain, in_channels=many, out_channels=r * low, input_size=(positions * few, 1))
        return (first, replace(plain, in_channels=few * r, out_channels=high, input_size=(positions * low, 1)))

    @property
    def output_size(self) -> tuple[int, int]:
        """Spatial size of the output for one sample."""
        if self.kind != "conv":
            return self.input_size
        sizes = zip(self.input_size, self.kernel, self.stride, self.padding, self.dilation)
        h, w = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
        return (h, w)

    @property
    def weights(self) -> int:
        """Number of weights, biases not counted."""
        if self.method != "dense":
            return sum(part.weights for part in self.factors())
        return self.out_channels * self.in_channels // self.groups * math.prod(self.kernel)

    @property
    def full_rank(self) -> tuple[int, ...]:
        """The ranks from which on the factors can be any layer; as long as ``rank``."""
        area, (kh, kw), inputs, outputs = math.prod(self.kernel), self.kernel, self.in_channels, self.out_channels
        (few, many), (high, low) = sides(inputs), sides(outputs)[::-1]
        full: dict[Method, tuple[int, ...]] = {
            "dense": (),
            "svd": (min(outputs, inputs * area),),
            "spatial": (min(inputs * kh, outputs * kw),),
            "tucker": (min(inputs, outputs * area), min(outputs, inputs * area)),
            "cp": (min(inputs * outputs, inputs * area, outputs * area),),
            "tensor-train": (min(few * high, many * low),),
        }
        return full[self.method]

    @property
    def factors_pay(self) -> bool:
        """Whether a factorised layer is below full rank and smaller than the dense one; a dense layer always is."""
        if self.method == "dense":
            return True
        below = all(r < most for r, most in zip(self.rank, self.full_rank))
        return below and self.weights < replace(self, method="dense", rank=()).weights

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        biased = self.bias or (self.kind == "embedding" and self.method != "dense")
        return self.weights + (self.out_channels if biased else 0)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one sample, over all calls."""
        parts = [part for part in self.factors() if part.kind != "embedding"]  # looking up multiplies nothing
        return self.calls * sum(part.weights * math.prod(part.output_size) for part in parts)

    @property
    def bytes(self) -> int:
        """Bytes of the stored tensors: fp32, or int8 weights with scale (and zero point) a channel, and biases.

        Of a table with shared rows also each token's row, as int32.
        """
        if self.method != "dense":
            parts = self.factors()
            return sum(part.bytes for part in parts) + 4 * (self.parameters - sum(part.parameters for part in parts))
        if self.bits == 32:
            return 4 * (self.parameters + self.tokens)
        if self.kind == "embedding":
            return self.weights + 4 * (self.out_channels + self.tokens)
        if self.dynamic:
            return self.weights + 4 * self.out_channels * (2 if self.bias else 1)
        return self.weights + 5 * self.out_channels + (4 * self.out_channels if self.bias else 0)
