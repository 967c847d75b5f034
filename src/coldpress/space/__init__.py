"""Finds, by tracing a model, all units and options that can be decided in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from coldpress.errors import SpaceError
from coldpress.layer_shape import MORE_METHODS, LayerShape
from coldpress.network import overlapping, under
from coldpress.plan import DROP, KEEP, Branch, ChannelGroup, Option, Site, Source, Space, Unit, UnitKind
from coldpress.space.bits import STATIC
from coldpress.space.blocks import residual_blocks
from coldpress.space.branches import constant_branches
from coldpress.space.channels import channel_groups
from coldpress.space.concatenated import concatenated_parts
from coldpress.space.layers import layer_shapes, table_shapes, tied_modules
from coldpress.space.meetings import meetings
from coldpress.space.ranks import METHODS, rank_options
from coldpress.space.vocabularies import row_options, tables_of_inputs
from coldpress.space.widths import width_options
from coldpress.surgery.moments import factors

__all__ = ["ALL_KINDS", "channel_groups", "find_space", "layer_shapes", "residual_blocks"]

ALL_KINDS: tuple[UnitKind, ...] = ("width", "rank", "bits", "depth", "vocabulary")


class Traceable(Protocol):
    """What find_space needs of a task."""

    @property
    def model(self) -> nn.Module: ...
    @property
    def example_inputs(self) -> tuple[Tensor, ...]: ...
    @property
    def ignored_layers(self) -> Sequence[str]: ...


def find_space(task: Traceable, kinds: Sequence[str] = ALL_KINDS) -> Space:
    """All units of the task's model with their options, and the layers whose cost they decide.

    Args:
        task: holds ``model``, ``example_inputs`` and ``ignored_layers`` (names of layers, or of modules that hold
            them, that stay as they are).
        kinds: which kinds of unit to look for: "width", "rank", "bits", "depth", "vocabulary"; with "cp" or
            "tensor-train" rank units have options of this form too.

    Raises:
        SpaceError: if the model has no layer, an ignored layer does not exist, or nothing can be decided.

    Example:
        >>> from types import SimpleNamespace
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2))
        >>> task = SimpleNamespace(model=net, example_inputs=(torch.zeros(1, 8),), ignored_layers=())
        >>> [unit.name for unit in find_space(task, ["width"]).units]
        ['0:width']
    """
    model, example_inputs, ignored = task.model, task.example_inputs, tuple(task.ignored_layers)
    _check(kinds, ignored, model)
    shapes = layer_shapes(model, example_inputs)
    refused: dict[str, str] = {}
    units: list[Unit] = []
    groups: dict[str, ChannelGroup] = {}
    blocks = residual_blocks(model, example_inputs) if "depth" in kinds else ()
    if "width" in kinds:
        found, refused = channel_groups(model, example_inputs, ignored)
        for name, group in found.items():
            shared = [m.module for m in group.members if _is_layer(model, m.module) and m.module not in shapes]
            if shared:
                refused[name] = f"{shared[0]!r} is called at several sizes or never"
                continue
            groups[f"{name}:width"] = group
        if "depth" in kinds:
            groups |= concatenated_parts(model, example_inputs, groups, (*ignored, *blocks))
        units += [Unit(name, "width", name.removesuffix(":width"), width_options(g)) for name, g in groups.items()]
    layers = list(shapes)
    tables = table_shapes(model, example_inputs) if "bits" in kinds or "vocabulary" in kinds else {}
    shapes = {**shapes, **tables}  # they are stored and hardly run: they matter where bytes do
    tied = {name: other for name, other in tied_modules(model).items() if name in shapes}
    refused |= {
        f"{name}:rank": f"its weight is also that of {other!r}: it keeps its form" for name, other in tied.items()
    }
    free = {name: shape for name, shape in shapes.items() if not under(name, ignored) and name not in tied}
    methods = (*(METHODS if "rank" in kinds else ()), *(method for method in MORE_METHODS if method in kinds))
    if methods:
        able = {name: shape for name, shape in free.items() if factors(model.get_submodule(name))}
        options = {name: rank_options(shape, methods=methods) for name, shape in able.items()}
        units += [Unit(f"{name}:rank", "rank", name, o) for name, o in options.items() if len(o) > 1]
    if "bits" in kinds:
        units += [Unit(f"{name}:bits", "bits", name, (Option(KEEP), STATIC)) for name in free]
    if "vocabulary" in kinds:
        read = tables_of_inputs(model, example_inputs, [name for name in tables if name in free])
        units += [Unit(f"{name}:vocabulary", "vocabulary", name, row_options(free[name].in_channels)) for name in read]
    names = [name for name in blocks if not overlapping(name, ignored)]
    branches = constant_branches(model, example_inputs, ignored, names) if "depth" in kinds else ()
    names += [branch.end for branch in branches]
    units += [Unit(f"{name}:depth", "depth", name, (Option(KEEP), Option(DROP, drop=True))) for name in names]
    units = [unit for unit in units if len(unit.options) > 1]
    if not units:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:5])
        raise SpaceError(f"nothing can be decided in this model with units {', '.join(kinds)}. {reasons}")
    met = meetings(model, example_inputs, layers) if "bits" in kinds else ()
    parts = {f"{branch.end}:depth": branch for branch in branches}
    return Space(tuple(units), _sites(shapes, units, groups, parts), refused, groups, met, parts)


def _check(kinds: Sequence[str], ignored: Sequence[str], model: nn.Module) -> None:
    for kind in kinds:
        if kind not in (*ALL_KINDS, *MORE_METHODS):
            raise SpaceError(f"unknown kind of unit {kind!r}; there are: {', '.join((*ALL_KINDS, *MORE_METHODS))}")
    names = {name for name, _ in model.named_modules()}
    for name in ignored:
        if name not in names:
            raise SpaceError(f"ignored layer {name!r} is not in the model")


def _is_layer(model: nn.Module, name: str) -> bool:
    return isinstance(model.get_submodule(name), nn.Conv2d | nn.Linear)


def _sites(
    shapes: dict[str, LayerShape], units: list[Unit], groups: dict[str, ChannelGroup], branches: dict[str, Branch]
) -> tuple[Site, ...]:
    index = {unit.name: i for i, unit in enumerate(units)}
    sources: dict[str, list[Source]] = {}
    outputs: dict[str, Source] = {}
    for unit in units:
        if unit.kind == "vocabulary":
            sources[unit.target] = [Source(index[unit.name], unit.options[0].channels or 0)]
    for name, group in groups.items():
        for member in group.members:
            source = Source(index[name], group.channels, member.index.shape[1])
            if member.role in ("in", "channel"):
                sources.setdefault(member.module, []).append(source)
            if member.role in ("out", "channel"):
                outputs[member.module] = source
    blocks = {unit.target: index[unit.name] for unit in units if unit.kind == "depth" and unit.name not in branches}
    blocks |= {group.block: index[name] for name, group in groups.items() if group.block}
    found = []
    for name, shape in shapes.items():
        block = next((block for block in blocks if under(name, [block])), None)
        found.append(
            Site(
                name,
                shape,
                tuple(sources.get(name, ())),
                outputs.get(name),
                index.get(f"{name}:rank"),
                index.get(f"{name}:bits"),
                None if block is None else blocks[block],
                next((index[unit] for unit, branch in branches.items() if under(name, branch.modules)), None),
            )
        )
    return tuple(found)
