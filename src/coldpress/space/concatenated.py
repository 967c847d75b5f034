"""Parts that may go whole: their channels are only concatenated with others, as are branches of Inception."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from coldpress.network import evaluating, first_tensor, forwarding, overlapping, restoring, run_watched, under
from coldpress.plan import ChannelGroup, Member
from coldpress.surgery.channels import mask_inputs, remove_channels, without_block
from coldpress.surgery.structure import Absent


def concatenated_parts(
    model: nn.Module, example_inputs: Sequence[Tensor], groups: Mapping[str, ChannelGroup], kept: Sequence[str] = ()
) -> dict[str, ChannelGroup]:
    """The groups all channels of which may go, with the module that goes then as their ``block``.

    That is the outermost module that makes these channels and nothing else. Whatever reads them reads others too, of
    which some stay: where all parts of a concatenation could go the widest may not. Each is tried: without the part the
    network must run, and give what it gives when nothing of it is read. No part holds another, nor a module that is
    used elsewhere too. Layers outside of it that only it reads stay, and are counted, though the runtime leaves them
    out of the file.

    Args:
        model: the network.
        example_inputs: its inputs, each ``(batch, ...)``.
        groups: its channel groups, by name.
        kept: modules that neither go nor lie in what goes.
    """
    widths = _widths_of_calls(model, example_inputs)
    batch = [tensor[:2] for tensor in example_inputs]
    shared = _holding_shared(model)
    taken: dict[str, int] = defaultdict(int)  # channels of each reader's input that may go
    found: dict[str, ChannelGroup] = {}
    for name, group in sorted(groups.items(), key=lambda item: item[1].channels):
        outs = group.of_role("out")
        if len(outs) != 1 or group.scaled:
            continue
        for block in _above(outs[0].module):
            whole = replace(group, block=block)
            readers = without_block(whole).members
            if widths.get(whole.block) != group.channels or not readers or whole.block in shared:
                continue
            if overlapping(whole.block, (*kept, *(part.block for part in found.values()))):
                continue
            if any(taken[m.module] + m.index.size >= _width(model, m) for m in readers):
                continue
            if _may_go(model, whole, batch):
                found[name] = whole
                for member in readers:
                    taken[member.module] += member.index.size
                break
    return found


def _holding_shared(model: nn.Module) -> set[str]:
    """Modules that hold, or are, one that has a name outside of them too."""
    names: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        names[module].append(name)
    found = set()
    for same in (same for same in names.values() if len(same) > 1):
        holders = {holder for name in same for holder in _above(name)}
        found |= {holder for holder in holders if not all(under(name, [holder]) for name in same)}
    return found


def _above(name: str) -> list[str]:
    """A module and those that hold it."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _widths_of_calls(model: nn.Module, example_inputs: Sequence[Tensor]) -> dict[str, int]:
    """The channels of what each module returns, of those that are called once and return one tensor."""
    calls: dict[str, list[int]] = defaultdict(list)

    def note(name: str, _: Any, output: Any) -> None:
        calls[name].append(output.shape[1] if isinstance(output, Tensor) and output.dim() > 1 else 0)

    run_watched(model, [x[:2] for x in example_inputs], {m: name for name, m in model.named_modules() if name}, note)
    return {name: found[0] for name, found in calls.items() if len(found) == 1}


def _width(model: nn.Module, member: Member) -> int:
    """Channels that a module reads."""
    module = model.get_submodule(member.module)
    for name in ("in_channels", "in_features", "num_features"):
        if hasattr(module, name):
            return int(getattr(module, name))
    return 0


def _may_go(model: nn.Module, group: ChannelGroup, batch: Sequence[Tensor]) -> bool:
    outside, none = without_block(group), np.zeros(0, dtype=np.int64)
    readers = [model.get_submodule(member.module) for member in outside.members]
    try:
        with evaluating(model):
            with restoring(readers):
                mask_inputs(model, [(outside, none)])
                wanted = first_tensor(model(*batch))
            with restoring(readers), forwarding(model, {group.block: Absent().forward}):
                remove_channels(model, [(outside, none)])
                got = first_tensor(model(*batch))
    except Exception:  # what does not run without a part keeps it
        return False
    scale = max(float(wanted.abs().max()), 1e-6)
    return got.shape == wanted.shape and float((got - wanted).abs().max()) <= 1e-3 * scale
