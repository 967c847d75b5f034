"""Finds the filters of a network that can go, and the layers whose bits can be chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import nn

from coldpress.errors import SpaceError
from coldpress.filters import FEWEST, MOST, FilterLayer, FilterSpace
from coldpress.layer_shape import LayerShape
from coldpress.network import LAYER_TYPES, under
from coldpress.plan import ChannelGroup
from coldpress.space import Traceable
from coldpress.space.channels import channel_groups
from coldpress.space.layers import layer_shapes, tied_modules


def find_filters(task: Traceable, most_bits: int = MOST, least_bits: int = FEWEST) -> FilterSpace:
    """Filters one by one, and layers' bits, as 0/1 variables.

    Which filters can go is what `channel_groups` says: the inner channels of blocks singly, those of a residual
    stream together with all that are added to them, those behind shortcuts that pad with zeros not at all.

    Args:
        task: holds ``model``, ``example_inputs`` and ``ignored_layers`` (they keep filters and floats).
        most_bits: bits of a layer that loses none, 3 to 8.
        least_bits: fewest bits of a layer, 2 to 7.

    Raises:
        SpaceError: the model has no layer that can be rounded, or the bits are out of range.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> found = find_filters(SimpleNamespace(model=net, example_inputs=(torch.zeros(1, 8),), ignored_layers=()))
        >>> found.variables[3:7]
        ('0:filter3', '0:bit0', '0:bit1', '0:bit2')
    """
    model, ignored = task.model, tuple(task.ignored_layers)
    shapes, tied = layer_shapes(model, task.example_inputs), tied_modules(model)
    names = [name for name in shapes if name not in tied and not under(name, ignored)]
    if not names:
        raise SpaceError("no layer of this model can be rounded: all are ignored, or share their weights")
    groups, refused = channel_groups(model, task.example_inputs, ignored)
    usable = {name: group for name, group in groups.items() if _called_alike(group, model, shapes)}
    refused |= {name: "a layer is called at several sizes or never" for name in groups if name not in usable}
    owners = _owners(tuple(usable.values()), model)
    layers = []
    for name in names:
        weight = model.get_submodule(name).get_parameter("weight")
        layers.append(FilterLayer(name, weight[0].numel(), owners.get(name, np.full(len(weight), -1))))
    return FilterSpace(tuple(layers), tuple(usable.values()), most_bits, least_bits, refused)


def _called_alike(group: ChannelGroup, model: nn.Module, shapes: Mapping[str, LayerShape]) -> bool:
    """Whether every layer of a group has one shape in all its calls."""
    layers = [m.module for m in group.members if isinstance(model.get_submodule(m.module), LAYER_TYPES)]
    return all(name in shapes for name in layers)


def _owners(groups: Sequence[ChannelGroup], model: nn.Module) -> dict[str, NDArray[np.int64]]:
    """For each layer that has filters which can go, the index of each filter's variable; -1 for those that stay."""
    found: dict[str, NDArray[np.int64]] = {}
    first = 0
    for group in groups:
        variable = first + np.arange(group.channels) // group.atom
        for member in (*group.of_role("out"), *group.of_role("channel")):
            module = model.get_submodule(member.module)
            if isinstance(module, LAYER_TYPES):
                owner = found.setdefault(member.module, np.full(len(module.get_parameter("weight")), -1))
                owner[member.index] = variable[:, None]
        first += group.channels // group.atom
    return found
