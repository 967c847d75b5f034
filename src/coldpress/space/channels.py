"""Channels that can only go together: what tracing and module names tell, checked.

A group is checked by really removing channels: one that cannot be removed, or whose removal does not equal masking, is
refused with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from torch import Tensor, nn

from coldpress.network import evaluating, first_tensor, restoring, under
from coldpress.plan import ChannelGroup
from coldpress.space.dependencies import traced_groups
from coldpress.space.heads import head_sizes
from coldpress.space.roles import role_groups
from coldpress.surgery.channels import mask_inputs, remove_channels

CHANGED_SHAPE = "removing its channels changes the shape of the model's output"
NOT_MASKING = "removing its channels is not the same as masking them"
MAYBE_HEADS = (CHANGED_SHAPE, NOT_MASKING)

AMPLIFIED = 8.0


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
    groups, refused = traced_groups(model, example_inputs)
    named = role_groups(model)
    usable: dict[str, ChannelGroup] = {}

    @cache
    def sizes() -> tuple[int, ...]:
        return head_sizes(model, example_inputs)

    for name, group in groups.items():
        reason = _why_not(model, group, example_inputs, ignored)
        if reason in MAYBE_HEADS or (reason is None and _like_attention(model, group)):
            for heads in _in_heads(group, sizes()):
                if _why_not(model, heads, example_inputs, ignored) is None:
                    group, reason = heads, None
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


def _in_heads(group: ChannelGroup, sizes: Sequence[int]) -> list[ChannelGroup]:
    """The group with its channels in whole heads of each of the sizes that divide it."""
    fit = [size for size in sizes if group.atom == 1 and group.channels > size and group.channels % size == 0]
    return [replace(group, atom=size) for size in fit]


def _like_attention(model: nn.Module, group: ChannelGroup) -> bool:
    """Whether a channel has one row each of queries, keys and values, or might have: attention that is nearly even
    does not tell single channels from whole heads."""
    outs = [member for member in group.of_role("out") if isinstance(model.get_submodule(member.module), nn.Linear)]
    return len(outs) == len(group.of_role("out")) and sum(member.index.shape[1] for member in outs) == 3


def _why_not(
    model: nn.Module, group: ChannelGroup, example_inputs: Sequence[Tensor], ignored: Sequence[str]
) -> str | None:
    """The reason why a group cannot be offered; None when removing channels equals masking them."""
    for member in group.of_role("out") + group.of_role("channel"):
        if under(member.module, ignored):
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
