"""What torch-pruning's dependency graph tells of channels that can only go together, as plain channel groups.

The only file that knows of torch-pruning. Whether its groups hold is checked by ``coldpress.space.channels``.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor, nn

from coldpress.plan import ChannelGroup, Member
from coldpress.space.roles import is_rotary

logger = logging.getLogger("coldpress.space")

NORMS = (nn.modules.batchnorm._BatchNorm,)


def traced_groups(model: nn.Module, example_inputs: Sequence[Tensor]) -> tuple[dict[str, ChannelGroup], dict[str, str]]:
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
