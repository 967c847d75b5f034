"""Channels that can only go together, found by torch-pruning's dependency graph, as plain channel groups.

Nothing above this file knows of torch-pruning: what it finds is checked by really removing channels from a copy, and
a group that cannot be removed, or whose removal does not equal masking, is refused with the reason.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn

from coldpress.network import evaluating, first_tensor, restoring
from coldpress.plan import ChannelGroup, Member
from coldpress.space.heads import head_sizes
from coldpress.space.roles import is_rotary, role_groups
from coldpress.surgery.channels import mask_inputs, remove_channels

logger = logging.getLogger("coldpress.space")

CHANGED_SHAPE = "removing its channels changes the shape of the model's output"
NOT_MASKING = "removing its channels is not the same as masking them"
MAYBE_HEADS = (CHANGED_SHAPE, NOT_MASKING)

AMPLIFIED = 8.0
NORMS = (nn.modules.batchnorm._BatchNorm,)


def channel_groups(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    ignored: Sequence[str] = (),
) -> tuple[dict[str, ChannelGroup], dict[str, str]]:
    """All channel groups of a model that can be removed, by name, and what is refused, with the reason.

    A group is called after its first producer. The model's outputs and the layers in ``ignored`` are never touched.

    Args:
        model: the network, on the CPU.
        example_inputs: its inputs, each ``(batch, ...)``.
        ignored: names of layers (or of modules that hold them) whose outputs stay as they are.
    """
    groups, refused = _traced(model, example_inputs)
    named = role_groups(model)
    usable: dict[str, ChannelGroup] = {}
    heads: tuple[int, ...] | None = None
    for name, group in groups.items():
        reason = _why_not(model, group, example_inputs, ignored)
        if reason in MAYBE_HEADS or (reason is None and _like_attention(model, group)):
            heads = head_sizes(model, example_inputs) if heads is None else heads
            for size in heads:
                if group.atom == 1 and group.channels % size == 0 and group.channels > size:
                    whole_heads = replace(group, atom=size)
                    if _why_not(model, whole_heads, example_inputs, ignored) is None:
                        group, reason = whole_heads, None
                        break
        if reason:
            refused[name] = reason
        else:
            usable[name] = group
    taken = {(member.module, member.role) for group in usable.values() for member in group.members}
    for name, group in named.items():
        if any((member.module, member.role) in taken for member in group.members):
            continue
        reason = _why_not(model, group, example_inputs, ignored)
        if reason is None:
            usable[name] = group
            refused = {other: why for other, why in refused.items() if other not in [m.module for m in group.members]}
        else:
            refused[name] = reason
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    return dict(sorted(usable.items(), key=lambda item: order.get(item[0], 0))), refused


def _like_attention(model: nn.Module, group: ChannelGroup) -> bool:
    """Whether a channel has one row each of queries, keys and values, or might have: attention that is nearly even
    does not tell single channels from whole heads."""
    outs = [member for member in group.of_role("out") if isinstance(model.get_submodule(member.module), nn.Linear)]
    return len(outs) == len(group.of_role("out")) and sum(member.index.shape[1] for member in outs) == 3


def _traced(model: nn.Module, example_inputs: Sequence[Tensor]) -> tuple[dict[str, ChannelGroup], dict[str, str]]:
    """The groups of the dependency graph, and what it cannot tell, with the reason."""
    if is_rotary(model):
        return {}, {"other widths": "rotary positions cannot be traced: only heads and neurons are looked for, by name"}
    try:
        raw = _dependency_groups(model, example_inputs)
    except Exception as error:  # torch-pruning fails in many ways on graphs that it does not know
        reason = f"the channel dependencies of this model cannot be traced ({type(error).__name__}: {error})"
        logger.warning("%s: widths are offered where module names tell them, if anywhere", reason)
        return {}, {"width": reason}
    return _merged(raw, dict(model.named_modules()))


Rows = dict[int, list[int]]
Members = dict[tuple[str, str], Rows | None]


@dataclass
class _Raw:
    """A group as traced: by (module, role) the rows of each channel; None where the module is unknown."""

    channels: set[int] = field(default_factory=set)
    members: Members = field(default_factory=dict)


def _dependency_groups(model: nn.Module, example_inputs: Sequence[Tensor]) -> list[_Raw]:
    """torch-pruning's groups; the model itself is not changed."""
    import torch_pruning as tp

    twin = copy.deepcopy(model).eval()
    for parameter in twin.parameters():
        parameter.requires_grad_(True)  # torch-pruning follows the autograd graph
    names = {module: name for name, module in twin.named_modules()}
    batch = tuple(tensor[:1] for tensor in example_inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = tp.DependencyGraph().build_dependency(twin, example_inputs=batch if len(batch) > 1 else batch[0])
        found: list[_Raw] = []
        for group in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
            raw = _Raw({1 + max(max(item.root_idxs) for item in group)})
            for item in group:
                module = item.dep.target.module
                kind = type(module).__name__
                if kind in ("_ElementWiseOp", "_ReshapeOp", "_ConcatOp", "_SplitOp"):
                    continue
                if module not in names:
                    raw.members["?", kind] = None
                    continue
                inwards = "in_channels" in getattr(item.dep.handler, "__name__", "")
                role = "in" if inwards else "out"
                pairs = raw.members.setdefault((names[module], role), {})
                assert pairs is not None
                for index, root in zip(item.idxs, item.root_idxs):
                    pairs.setdefault(int(root), []).append(int(index))
            found.append(raw)
    return found


def _merged(raw: list[_Raw], modules: dict[str, nn.Module]) -> tuple[dict[str, ChannelGroup], dict[str, str]]:
    """Channel groups from raw ones; the two sides of a grouped convolution become one group."""
    side: dict[tuple[str, str], int] = {}
    for i, group in enumerate(raw):
        for key in group.members:
            side[key] = i
    parent = list(range(len(raw)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for (name, role), i in side.items():
        module = modules.get(name)
        if role == "out" and isinstance(module, nn.Conv2d) and module.groups > 1 and (name, "in") in side:
            parent[root(i)] = root(side[name, "in"])
    merged: dict[int, _Raw] = {}
    for i, group in enumerate(raw):
        whole = merged.setdefault(root(i), _Raw())
        whole.channels |= group.channels
        for key, pairs in group.members.items():
            known = whole.members.setdefault(key, pairs)
            if known is not pairs and pairs is not None and known is not None:
                for channel, rows in pairs.items():
                    known[channel] = sorted(set(known.get(channel, [])) | set(rows))
    groups: dict[str, ChannelGroup] = {}
    refused: dict[str, str] = {}
    for whole in merged.values():
        name = _name_of(whole.members, modules)
        if len(whole.channels) > 1:
            refused[name] = "a grouped convolution joins groups of different sizes"
            continue
        result = _as_group(name, min(whole.channels), whole.members, modules)
        if isinstance(result, str):
            refused[name] = result
        else:
            groups[name] = result
    order = {name: i for i, name in enumerate(modules)}
    return dict(sorted(groups.items(), key=lambda item: order.get(item[0], 0))), refused


def _name_of(parts: Members, modules: dict[str, nn.Module]) -> str:
    order = {name: i for i, name in enumerate(modules)}
    producers = [name for name, role in parts if role == "out" and isinstance(modules.get(name), nn.Conv2d | nn.Linear)]
    return min(producers or [name for name, _ in parts], key=lambda name: order.get(name, len(order)))


def _as_group(name: str, channels: int, parts: Members, modules: dict[str, nn.Module]) -> ChannelGroup | str:
    members: list[Member] = []
    atom = 1
    for (module_name, role), pairs in parts.items():
        module = modules.get(module_name)
        if module is None or pairs is None:
            return "its channels pass what cannot be narrowed: zero padding, or a parameter outside of all layers"
        if len(pairs) != channels or len({len(rows) for rows in pairs.values()}) != 1:
            return f"its channels do not map evenly onto {module_name!r}"
        index = np.array([pairs[channel] for channel in range(channels)], dtype=np.int64)
        if isinstance(module, NORMS):
            members.append(Member(module_name, "channel", index))
        elif isinstance(module, nn.Conv2d) and module.groups > 1:
            if module.in_channels != module.out_channels or index.shape != (channels, 1):
                return f"the grouped convolution {module_name!r} changes the number of channels"
            atom = max(atom, module.in_channels // module.groups)
            if not any(member.module == module_name for member in members):
                members.append(Member(module_name, "channel", index))
        elif isinstance(module, nn.Conv2d | nn.Linear):
            members.append(Member(module_name, "in" if role == "in" else "out", index))
        else:
            return f"{type(module).__name__} {module_name!r} mixes its channels"
    if channels % atom or atom == channels:
        return f"its {channels} channels do not divide into atoms of {atom}"
    return ChannelGroup(name, channels, atom, tuple(members))


def _why_not(
    model: nn.Module, group: ChannelGroup, example_inputs: Sequence[Tensor], ignored: Sequence[str]
) -> str | None:
    """The reason why a group cannot be offered; None when removing channels equals masking them."""
    for member in group.of_role("out") + group.of_role("channel"):
        if any(member.module == name or member.module.startswith(name + ".") for name in ignored):
            return f"{member.module!r} is among the ignored layers"
    if not group.of_role("in"):
        return "its channels are the model's output"
    kept = np.arange(group.channels).reshape(-1, group.atom)[::2].ravel()
    batch = [tensor[:2] for tensor in example_inputs]
    touched = [model.get_submodule(name) for name in {m.module for m in group.members} | {n for n, _ in group.scaled}]
    try:
        with evaluating(model):
            with restoring(touched):
                _amplify(model, group)
                remove_channels(model, [(group, kept)])
                got = first_tensor(model(*batch))
            with restoring(touched):
                _amplify(model, group)
                mask_inputs(model, [(group, kept)])
                wanted = first_tensor(model(*batch))
    except Exception as error:
        return f"a network without half of its channels does not run ({type(error).__name__}: {str(error)[:120]})"
    if got.shape != wanted.shape:
        return CHANGED_SHAPE
    scale = max(float(wanted.abs().max()), 1e-6)
    if float((got - wanted).abs().max()) > 1e-3 * scale:
        return NOT_MASKING
    return None


def _amplify(model: nn.Module, group: ChannelGroup) -> None:
    """Make queries and keys large, so that attention that is nearly even does not hide what is torn apart."""
    producers = [model.get_submodule(member.module) for member in group.of_role("out")]
    if all(isinstance(module, nn.Linear) for module in producers):
        for module in producers:
            module.weight = nn.Parameter(AMPLIFIED * module.get_parameter("weight").detach())
