"""Removing channels: tensors really shrink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from coldpress.errors import SurgeryError
from coldpress.network import under
from coldpress.plan import ChannelGroup

Indices = npt.NDArray[np.int64]
Removal = Sequence[tuple[ChannelGroup, Indices]]


def removed_indices(removal: Removal) -> dict[tuple[str, str], Indices]:
    """What goes, as {(module, role): rows or columns}, in the numbering of the untouched network.

    Args:
        removal: channel groups, each with the channels that stay (whole atoms; none only of a group with a ``block``).

    Raises:
        SurgeryError: if nothing would be left of a group, or atoms would be torn apart.
    """
    gone: dict[tuple[str, str], list[Indices]] = {}
    for group, channels in removal:
        kept = np.unique(np.asarray(channels, dtype=np.int64))
        if (kept.size == 0 and not group.block) or any(kept < 0) or any(kept >= group.channels):
            raise SurgeryError(f"{group.name!r} has channels 0 to {group.channels - 1}; to keep: {kept.tolist()[:8]}")
        if kept.size != np.unique(kept // group.atom).size * group.atom:
            raise SurgeryError(f"{group.name!r} loses channels in whole groups of {group.atom} only")
        lost = np.setdiff1d(np.arange(group.channels), kept)
        for member in group.members:
            gone.setdefault((member.module, member.role), []).append(member.index[lost].ravel())
    return {key: np.unique(np.concatenate(parts)) for key, parts in gone.items()}


def without_block(group: ChannelGroup) -> ChannelGroup:
    """The group's members outside of its block, which goes whole."""
    return replace(group, members=tuple(m for m in group.members if not under(m.module, [group.block])))


def remove_channels(model: nn.Module, removal: Removal) -> None:
    """Remove channels from all members of the groups, in place: parameters are replaced by smaller ones.

    All groups are handled at once, since several may share a consumer (a concatenation).

    Args:
        model: the untouched network that holds the members.
        removal: channel groups, each with the channels that stay.
    """
    for (name, role), lost in removed_indices(removal).items():
        module = model.get_submodule(name)
        if role == "in":
            _drop(module, "weight", lost, 1)
            _shrink(module, lost.size, 0)
            continue
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            _drop(module, tensor, lost, 0)
        if role == "out":
            _shrink(module, 0, lost.size)
        elif isinstance(module, nn.Conv2d):
            module.groups -= module.groups * int(lost.size) // module.out_channels
            _shrink(module, lost.size, lost.size)
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.num_features -= int(lost.size)
    for group, channels in removal:
        for name, attribute in group.scaled:
            module = model.get_submodule(name)
            setattr(module, attribute, int(getattr(module, attribute)) * len(np.unique(channels)) // group.channels)


def mask_inputs(model: nn.Module, removal: Removal) -> None:
    """Zero the consumers' columns of the channels that go, in place (their parameters are replaced).

    The network then computes, at its full size, what it would compute with those channels removed.
    """
    for (name, role), lost in removed_indices(removal).items():
        if role == "in":
            module = model.get_submodule(name)
            weight = module.get_parameter("weight").detach().clone()
            weight[:, torch.from_numpy(lost)] = 0.0
            module.weight = nn.Parameter(weight)


def _drop(module: nn.Module, name: str, lost: Indices, dim: int) -> None:
    value = getattr(module, name, None)
    if not isinstance(value, Tensor) or value.dim() <= dim:
        return
    stay = torch.from_numpy(np.setdiff1d(np.arange(value.shape[dim]), lost)).to(value.device)
    taken = value.detach().index_select(dim, stay).contiguous()
    if isinstance(value, nn.Parameter):
        setattr(module, name, nn.Parameter(taken, requires_grad=value.requires_grad))
    else:
        setattr(module, name, taken)


def _shrink(module: nn.Module, inputs: int, outputs: int) -> None:
    names = ("in_channels", "out_channels") if isinstance(module, nn.Conv2d) else ("in_features", "out_features")
    for name, lost in zip(names, (inputs, outputs)):
        setattr(module, name, int(getattr(module, name)) - lost)
