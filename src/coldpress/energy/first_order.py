"""What each filter's going and each layer's lost bits do to each sample's loss, to first order."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.energy.fisher import finite, mask_gradients, summed_loss
from coldpress.filters import FilterSpace
from coldpress.network import logits_of
from coldpress.surgery.grid import to_grid

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Changes:
    """First-order changes of samples' losses (nats).

    Attributes:
        filters: ``(samples, filters)``, of each filter's going.
        layers: ``(samples, layers, most_bits - least_bits + 1)``, by bits lost.
    """

    filters: Floats
    layers: Floats


def first_order_changes(
    model: nn.Module,
    space: FilterSpace,
    inputs: Sequence[Tensor],
    labels: Tensor | None = None,
    *,
    seed: int = 0,
    batch_size: int = 64,
) -> Changes:
    """The changes of all decisions of a space; arguments and errors are those of `mask_gradients`."""
    given: dict[str, Any] = {"seed": seed, "batch_size": batch_size}
    channels = mask_gradients(model, inputs, space.groups, labels, **given).double().numpy()
    starts = np.cumsum([0, *(group.channels for group in space.groups)])
    filters = np.zeros((len(channels), len(space.filters)))
    for v, (g, a) in enumerate(space.filters):
        atom = space.groups[g].atom
        first = int(starts[g]) + a * atom
        filters[:, v] = -channels[:, first : first + atom].sum(axis=1)
    return Changes(filters, rounding_changes(model, space, inputs, labels, **given).double().numpy())


def rounding_changes(
    model: nn.Module,
    space: FilterSpace,
    inputs: Sequence[Tensor],
    labels: Tensor | None = None,
    *,
    seed: int = 0,
    batch_size: int = 64,
) -> Tensor:
    """First-order changes when a layer's weights are rounded, ``(samples, layers, most_bits - least_bits + 1)``.

    What rounding adds to a layer's outputs is the layer's own function with the change of its weights; times the
    gradient by the outputs, it is the change of the loss. Arguments and errors are those of `mask_gradients`.
    """
    numbers = range(space.most_bits, space.least_bits - 1, -1)
    twin = copy.deepcopy(model).eval().requires_grad_(True)  # so that all activations have gradients
    found = torch.zeros(len(inputs[0]), len(space.layers), len(numbers))
    here = slice(0, 0)

    def watch(place: int, name: str) -> None:
        module = twin.get_submodule(name)
        weight = module.get_parameter("weight").detach()
        deltas = [to_grid(weight, bits).weight.to(weight.dtype) - weight for bits in numbers]

        def add(value: Tensor, gradient: Tensor) -> None:
            with torch.no_grad():
                for r, delta in enumerate(deltas):
                    found[here, place, r] += (_applied(module, value, delta) * gradient).flatten(1).sum(1).float()

        def leave(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            value = args[0].detach().clone()  # what follows may write into it
            output.register_hook(lambda gradient: add(value, gradient))  # type: ignore[no-untyped-call]

        module.register_forward_hook(leave)

    for place, layer in enumerate(space.layers):
        watch(place, layer.name)
    for start in range(0, len(found), batch_size):
        here = slice(start, start + batch_size)
        with torch.enable_grad():
            logits = logits_of(twin(*[tensor[here] for tensor in inputs]))
            loss = summed_loss(logits, None if labels is None else labels[here], seed + start)
            loss.backward()  # type: ignore[no-untyped-call]
        twin.zero_grad(set_to_none=True)
    return finite(found)


def _applied(module: nn.Module, value: Tensor, weight: Tensor) -> Tensor:
    if isinstance(module, nn.Linear):
        return F.linear(value, weight)
    assert isinstance(module, nn.Conv2d)
    return module._conv_forward(value, weight, None)
