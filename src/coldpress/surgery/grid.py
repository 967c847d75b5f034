"""Weights as small integers and a scale an output: what is stored, and exactly what comes back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from coldpress.errors import SurgeryError

SIGNIFICANT = 16
"""Bits of a scale that count. Times a level of up to 7 bits and a sign that is exact in float32, so weights that are on
a grid already come out as they are: to round twice changes nothing."""


@dataclass(frozen=True)
class Grid:
    """A layer's weights on a grid.

    Attributes:
        levels: int8, in the weight's shape, from ``-top`` to ``top`` where ``top = 2^(bits - 1) - 1``.
        scales: ``(outputs,)`` float32.
        bits: 2 to 8.
    """

    levels: Tensor
    scales: Tensor
    bits: int

    @property
    def weight(self) -> Tensor:
        """Levels times scales, float32, in the weight's shape."""
        return self.levels.float() * self.scales.reshape(-1, *[1] * (self.levels.dim() - 1))


def to_grid(weight: Tensor, bits: int) -> Grid:
    """The nearest levels of a symmetric grid that spans each output's largest weight.

    Args:
        weight: ``(outputs, ...)``.
        bits: 2 to 8.

    Raises:
        SurgeryError: bits out of range, or weights that are NaN or infinite.
    """
    if bits not in range(2, 9):
        raise SurgeryError(f"bits is {bits}; weights are stored in 2 to 8")
    found = weight.detach().float()
    if not bool(found.isfinite().all()):
        raise SurgeryError("the weight holds NaN or Inf; look at the model, or at its training")
    top = 2 ** (bits - 1) - 1
    scales = _shortened(found.flatten(1).abs().amax(dim=1).clamp_min(1e-30) / top)
    levels = (found / scales.reshape(-1, *[1] * (found.dim() - 1))).round().clamp(-top, top)
    return Grid(levels.to(torch.int8), scales, bits)


def _shortened(scales: Tensor) -> Tensor:
    """Scales rounded to `SIGNIFICANT` bits."""
    spare = 24 - SIGNIFICANT
    words = scales.contiguous().view(torch.int32)
    return ((words + (1 << (spare - 1))) >> spare << spare).view(torch.float32)
