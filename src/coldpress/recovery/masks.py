"""Masks that are kept while a network learns: what was pruned stays zero, under any optimiser."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.utils import parametrize

from coldpress.errors import TaskError


@contextmanager
def held(model: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Weights outside the masks are zero inside, whatever an optimiser does to them, and when it ends.

    Masking the gradients would not do: Muon's steps mix the entries of a matrix.

    Args:
        model: the network; its weights are changed, and stay changed.
        masks: by module, True where a weight stays, in the shape of the module's ``weight``.

    Raises:
        TaskError: a mask's shape is not that of the weight.
    """
    masked: list[nn.Module] = []
    try:
        for name, mask in masks.items():
            module = model.get_submodule(name)
            weight = module.get_parameter("weight")
            if mask.shape != weight.shape:
                raise TaskError(f"the mask of {name!r} has shape {tuple(mask.shape)}, its weight {tuple(weight.shape)}")
            parametrize.register_parametrization(module, "weight", _Masked(mask.to(weight.device)))
            masked.append(module)
        yield
    finally:
        for module in masked:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)


class _Masked(nn.Module):
    """A weight where a mask is True, zero elsewhere."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, weight: Tensor) -> Tensor:
        mask = self.get_buffer("mask")
        return weight.masked_fill(~mask, 0.0)
