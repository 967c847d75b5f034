"""Training of weights that are rounded: forth on the grid, back as if it were not there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from coldpress.surgery.grid import to_grid


@contextmanager
def rounded(model: nn.Module, bits: Mapping[str, int]) -> Iterator[nn.Module]:
    """Layers compute with weights of so many bits while floats behind them learn; at the end the weights are rounded.

    Gradients pass the rounding unchanged (the straight-through estimator of Bengio et al. 2013, arXiv:1308.3432).

    Args:
        model: changed in place for the time.
        bits: of each layer, by name.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 2))
        >>> with rounded(net, {"0": 2}) as student:
        ...     student(torch.ones(1, 4)).sum().backward()
        >>> len(net[0].weight.unique()) <= 6
        True
    """
    modules = [model.get_submodule(name) for name in bits]
    for module, number in zip(modules, bits.values()):
        parametrize.register_parametrization(module, "weight", _Rounding(number))
    try:
        yield model
    finally:
        for module in modules:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


class _Rounding(nn.Module):
    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, weight: Tensor) -> Tensor:
        found: Tensor = _StraightThrough.apply(weight, self.bits)  # type: ignore[no-untyped-call]
        return found


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, weight: Tensor, bits: int) -> Tensor:  # type: ignore[override]
        return to_grid(weight, bits).weight.to(weight.dtype)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        return gradients[0], None
