"""From a sample of 0/1 variables to a network: filters gone for real, weights on grids of few bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coldpress.filters import FilterSpace
from coldpress.plan import KEEP, Option, Plan, Space, Unit
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.channels import removed_indices
from coldpress.surgery.effects import Changed
from coldpress.surgery.grid import to_grid
from coldpress.surgery.moments import collect_moments


@dataclass(frozen=True)
class Decoded:
    """What a sample makes of a network.

    Attributes:
        model: without the filters that go, its weights rounded.
        plan: the channels that stay, by group, and the structure from which the network can be rebuilt without data.
        bits: of each layer, by name; what `coldpress.pack_weights` takes.
        weight_bits: bits of all weights of these layers, without scales.
        original_bits: bits of the original's at ``most_bits``.
    """

    model: nn.Module
    plan: Plan
    bits: dict[str, int]
    weight_bits: int
    original_bits: int


def decode(
    model: nn.Module, space: FilterSpace, sample: Mapping[str, Any], calibration: Sequence[Tensor] | None = None
) -> Decoded:
    """Carry a sample out on a copy of the network.

    Filters go with their norms and with the columns of the layers behind them, as `coldpress.surgery` removes them.
    The published procedure leaves the other weights as they are; with ``calibration`` they are first fitted by least
    squares to the original's activations.

    Args:
        model: the original.
        space: its filters and layers.
        sample: 0 or 1 for each of the space's variables.
        calibration: inputs for the fit, each ``(samples, ...)``; None fits nothing.

    Raises:
        SamplerError: the sample has other variables, or nothing would stay of a group (see `repair`).
    """
    kept, bits = space.kept(sample), space.bits(sample)
    groups = {f"{group.name}:width": group for group in space.groups if group.name in kept}
    units = tuple(
        Unit(name, "width", group.name, (Option(KEEP), Option("kept", channels=len(kept[group.name]))))
        for name, group in groups.items()
    )
    narrowed = Plan(dict.fromkeys(groups, "kept"), {name: kept[group.name] for name, group in groups.items()})
    moments = None
    if calibration is not None:
        moments = collect_moments(model, [layer.name for layer in space.layers], calibration)
    student, plan = apply_plan(
        model, Space(units, (), groups=groups), narrowed, moments=moments, calibration=calibration
    )
    round_layers(student, bits)
    sizes = {name: student.get_submodule(name).get_parameter("weight").numel() for name in bits}
    return Decoded(
        student.eval(),
        Plan({}, kept, plan.structure),
        bits,
        sum(bits[name] * size for name, size in sizes.items()),
        space.most_bits * space.weights,
    )


def round_layers(model: nn.Module, bits: Mapping[str, int]) -> None:
    """Round layers' weights, by name, to the nearest of so many bits, in place."""
    for name, number in bits.items():
        weight = model.get_submodule(name).get_parameter("weight")
        with torch.no_grad():
            weight.copy_(to_grid(weight, number).weight)


def replacements(
    model: nn.Module, space: FilterSpace, sample: Mapping[str, Any]
) -> dict[str, Callable[[Tensor], Tensor]]:
    """What layers compute under a sample, at full size and without re-fit, by name: for energies and measurements.

    A channel that goes is zero columns in the layers behind it. Layers whose bits are the most and whose inputs stay
    are rounded too.
    """
    kept = space.kept(sample)
    removal = [(group, np.array(kept[group.name])) for group in space.groups if group.name in kept]
    return changed_layers(model, space.bits(sample), removed_indices(removal))


def changed_layers(
    model: nn.Module, bits: Mapping[str, int], gone: Mapping[tuple[str, str], Any]
) -> dict[str, Callable[[Tensor], Tensor]]:
    """What layers compute with weights of so many bits, and without some input channels, by name.

    Args:
        model: the network.
        bits: of the layers that are rounded.
        gone: by (module, role) what goes; of role "in" the input channels (`removed_indices`).
    """
    lost = {name: columns for (name, role), columns in gone.items() if role == "in"}
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    for name in dict.fromkeys((*bits, *lost)):
        module = model.get_submodule(name)
        weight = module.get_parameter("weight").detach().clone()
        columns = np.asarray(lost.get(name, ()), dtype=np.int64)
        weight[:, torch.from_numpy(columns)] = 0.0
        if name in bits:
            weight = to_grid(weight, bits[name]).weight.to(weight.dtype)
        bias = module.bias.detach() if isinstance(module.bias, Tensor) else weight.new_zeros(len(weight))
        found[name] = Changed((name, bits.get(name), columns.tobytes()), module, weight, bias, False)
    return found
