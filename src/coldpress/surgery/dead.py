"""Channels that training with masks left without effect, removed for good."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from coldpress.network import evaluating, first_tensor
from coldpress.plan import ChannelGroup
from coldpress.surgery.channels import Indices, remove_channels

NO_MIXING = (nn.modules.batchnorm._BatchNorm, nn.Conv2d)
"""What channels may pass through, each by itself: other normalisations mix them."""


def remove_dead_channels(
    model: nn.Module, groups: Sequence[ChannelGroup], example_inputs: Sequence[Tensor]
) -> dict[str, int]:
    """Remove channels that nothing reads, or that are zero whatever the input, in place; the outputs stay as they are.

    A channel is not read where every layer that reads it has zeros for it. It is zero where its filters and biases
    are, and its normalisations shift it by nothing: one whose filter alone is zero still carries a constant, and stays.
    So does one that a function makes a constant of, as a sigmoid does. Atoms (heads, say) go whole, and each group
    keeps one.

    Args:
        model: the network.
        groups: those of `coldpress.space.channel_groups`.
        example_inputs: its inputs, each ``(batch, ...)``, on which the outputs are compared.

    Returns:
        How many channels each group lost, of groups that lost some.
    """
    removal: list[tuple[ChannelGroup, Indices]] = []
    for group in groups:
        unread, zero = _unread(model, group), _zero(model, group)
        dead = unread | zero
        if (zero & ~unread).any() and not _same_without(model, group, dead, example_inputs):
            dead = unread
        stay = _stay(group, dead)
        if len(stay) < group.channels:
            removal.append((group, stay))
    remove_channels(model, removal)
    return {group.name: group.channels - len(stay) for group, stay in removal}


def extend_masks(model: nn.Module, groups: Sequence[ChannelGroup], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks of weights, and with them masks of what makes a constant of a channel whose filters are masked whole.

    A normalisation learns such a channel's shift, and it is never zero. With its weight and bias masked too, and the
    biases of its filters, it is, and `remove_dead_channels` removes it after training. Atoms are masked whole or not.

    Args:
        model: the network; it is not changed.
        groups: those of `coldpress.space.channel_groups`.
        masks: by module, True where a weight stays, in the shape of the module's ``weight``.

    Returns:
        The masks, with those of normalisations by module and of biases by name ("bn1.bias"), as
        `coldpress.recovery.held` takes them.
    """
    found = dict(masks)
    for group in groups:
        dead = _masked_whole(group, masks)
        along = group.of_role("channel")
        if not dead.any() or not all(isinstance(model.get_submodule(m.module), NO_MIXING) for m in along):
            continue
        for member in (*group.of_role("out"), *along):
            module, lost = model.get_submodule(member.module), torch.from_numpy(member.index[dead.numpy()]).ravel()
            names = {f"{member.module}.bias": getattr(module, "bias", None)}
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                names[member.module] = module.weight
            for name, tensor in names.items():
                if isinstance(tensor, Tensor):
                    mask = found.get(name, torch.ones(tensor.shape, dtype=torch.bool))
                    found[name] = mask.cpu().index_fill(0, lost, value=False)
    return found


def _masked_whole(group: ChannelGroup, masks: Mapping[str, Tensor]) -> Tensor:
    """Channels, in whole atoms, of whose filters the masks leave nothing, ``(channels,)`` bool."""
    makers = group.of_role("out")
    found = torch.full((group.channels,), bool(makers) and all(member.module in masks for member in makers))
    for member in makers if found.any() else ():
        rows = ~masks[member.module].cpu().flatten(1).any(dim=1)
        found &= rows[torch.from_numpy(member.index)].all(dim=1)
    return found.reshape(-1, group.atom).all(dim=1).repeat_interleave(group.atom)


def _stay(group: ChannelGroup, dead: Tensor) -> Indices:
    """The channels of atoms that are not dead altogether; at least one atom."""
    gone = dead.reshape(-1, group.atom).all(dim=1)
    if gone.all():
        gone[0] = False
    return (~gone).repeat_interleave(group.atom).nonzero().ravel().numpy().astype(np.int64)


def _same_without(model: nn.Module, group: ChannelGroup, dead: Tensor, inputs: Sequence[Tensor]) -> bool:
    """Whether the outputs on some inputs are the same without these channels."""
    smaller = copy.deepcopy(model)
    remove_channels(smaller, [(group, _stay(group, dead))])
    with evaluating(model), evaluating(smaller):
        before, after = first_tensor(model(*inputs)), first_tensor(smaller(*inputs))
    return before.shape == after.shape and torch.allclose(
        before, after, atol=1e-5 * float(before.abs().max()), rtol=0.0
    )


def _unread(model: nn.Module, group: ChannelGroup) -> Tensor:
    """Channels for which all readers have zeros, ``(channels,)`` bool."""
    readers = group.of_role("in")
    found = torch.full((group.channels,), bool(readers))
    for member in readers:
        weight = model.get_submodule(member.module).get_parameter("weight").detach()
        columns = (weight == 0).transpose(0, 1).flatten(1).all(dim=1)
        found &= columns[torch.from_numpy(member.index)].all(dim=1)
    return found


def _zero(model: nn.Module, group: ChannelGroup) -> Tensor:
    """Channels that hold zeros whatever the input, ``(channels,)`` bool."""
    makers = group.of_role("out")
    found = torch.full((group.channels,), bool(makers))
    for member in (*makers, *group.of_role("channel")):
        module, index = model.get_submodule(member.module), torch.from_numpy(member.index)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            shift = _shift(module)
            found &= shift is not None and (shift == 0)[index].all(dim=1)
            continue
        bias = getattr(module, "bias", None)  # a table of embeddings has none
        if isinstance(bias, Tensor):
            found &= (bias.detach() == 0)[index].all(dim=1)
        if member.role == "out":
            rows = (module.get_parameter("weight").detach() == 0).flatten(1).all(dim=1)
            found &= rows[index].all(dim=1)
        elif not isinstance(module, nn.Conv2d):  # a normalisation over channels mixes them
            found &= False
    return found


def _shift(norm: nn.modules.batchnorm._BatchNorm) -> Tensor | None:
    """What a BatchNorm makes of zeros in evaluation; None where it has no statistics of its own."""
    if norm.running_mean is None:
        return None
    normed = -norm.get_buffer("running_mean") * torch.rsqrt(norm.get_buffer("running_var") + norm.eps)
    if norm.weight is None:
        return normed
    return normed * norm.get_parameter("weight").detach() + norm.get_parameter("bias").detach()
