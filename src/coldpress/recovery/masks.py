"""Masks that are kept while a network learns: what was pruned stays zero, under any optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.utils import parametrize

from coldpress.errors import TaskError
from coldpress.network import LAYER_TYPES


@contextmanager
def held(model: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Weights and biases outside the masks are zero inside, whatever an optimiser does to them, and when it ends.

    Masking the gradients would not do: Muon's steps mix the entries of a matrix.

    Args:
        model: the network; its weights are changed, and stay changed.
        masks: by module, True where a weight stays, in the shape of the module's ``weight``; or by the name of a bias
            ("bn1.bias"), in its shape.

    Raises:
        TaskError: a mask's shape is not that of the weight or bias.
    """
    masked: list[tuple[nn.Module, str]] = []
    try:
        for name, mask in masks.items():
            kind = "bias" if name.endswith(".bias") else "weight"
            module = model.get_submodule(name.removesuffix(".bias"))
            tensor = module.get_parameter(kind)
            if mask.shape != tensor.shape:
                raise TaskError(f"the mask of {name!r} has shape {tuple(mask.shape)}, its {kind} {tuple(tensor.shape)}")
            parametrize.register_parametrization(module, kind, _Masked(mask.to(tensor.device)))
            masked.append((module, kind))
        yield
    finally:
        for module, kind in masked:
            parametrize.remove_parametrizations(module, kind, leave_parametrized=True)


def not_zero(model: nn.Module) -> dict[str, Tensor]:
    """Masks that keep the zeros which convolutions and linears have: by module, in the shape of its ``weight``."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LAYER_TYPES)}
    return {name: module.get_parameter("weight").detach() != 0 for name, module in layers.items()}


class _Masked(nn.Module):
    """A weight or bias where a mask is True, zero elsewhere."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        mask = self.get_buffer("mask")
        return weight.masked_fill(~mask, 0.0)
