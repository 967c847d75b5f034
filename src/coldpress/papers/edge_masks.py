"""Masks of the smallest weights, as the published search tries them: zeros in dense tensors, for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn


def prunable(model: nn.Module) -> list[str]:
    """Names of the linear layers, in the order of the model."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def smallest(weight: Tensor, amount: float) -> Tensor:
    """Where the given fraction of smallest weights stands, ``(weights,)`` of the flattened tensor."""
    return weight.abs().flatten().topk(round(amount * weight.numel()), largest=False).indices


@contextmanager
def masked(model: nn.Module, amounts: Mapping[str, float]) -> Iterator[float]:
    """Layers without the given fraction of their smallest weights, for a while; yields the fraction of zeros in all."""
    saved = {name: model.get_submodule(name).get_parameter("weight") for name in amounts}
    zeros = 0
    try:
        for name, amount in amounts.items():
            weight = saved[name].detach().clone()
            gone = smallest(weight, amount)
            weight.view(-1)[gone] = 0.0
            model.get_submodule(name).register_parameter("weight", nn.Parameter(weight))
            zeros += len(gone)
        yield zeros / sum(p.numel() for p in model.parameters())
    finally:
        for name, weight in saved.items():
            model.get_submodule(name).register_parameter("weight", weight)
