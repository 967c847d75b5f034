"""Efficient channel attention behind blocks of a network (Wang et al. 2020, arXiv:1910.03151).

A channel is scaled by what the means of it and of its neighbours say: global average pool, 1-D convolution over the
channels, sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from coldpress.errors import SurgeryError
from coldpress.network import replace_module, run_watched
from coldpress.plan import ChannelGroup


def eca_kernel(channels: int, gamma: float = 2.0, b: float = 1.0) -> int:
    """The odd number nearest to \\|log2(channels) / gamma + b / gamma\\|, the greater of two; eq. 12 of the paper.

    Example:
        >>> [eca_kernel(channels) for channels in (4, 64, 128, 512)]
        [1, 3, 5, 5]
    """
    return 2 * math.floor(abs((math.log2(channels) + b) / gamma) / 2.0) + 1


class ECA(nn.Module):
    """Channels of ``(batch, channels, height, width)`` scaled by twice a sigmoid.

    The published module, sigmoid alone, halves whatever it is put behind, and a trained network is lost. Here the
    convolution starts at zero and the sigmoid is doubled: the scales start at 1, and learn at once, since the
    convolution's gradient is not zero. The factor 2 is no freedom lost: the next layer's weights can take it up.

    The convolution is one of height 1, so that it is counted, and rounded, as any layer is: C k multiplications and
    4 k bytes; the pool's sums and the scaling are not counted, as additions and normalisations are not elsewhere.

    Args:
        kernel: odd.
    """

    def __init__(self, kernel: int) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise SurgeryError(f"kernel is {kernel}; that of channel attention is odd, 1 or more")
        self.conv = nn.Conv2d(1, 1, (1, kernel), padding=(0, kernel // 2), bias=False)
        nn.init.zeros_(self.conv.weight)

    def scales(self, x: Tensor) -> Tensor:
        """Of each channel, ``(batch, channels)``, between 0 and 2."""
        means = x.mean((2, 3))[:, None, None, :]
        return 2.0 * torch.sigmoid(self.conv(means))[:, 0, 0]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scales(x)[:, :, None, None]


class Attended(nn.Sequential):
    """A block and the attention behind it."""

    @property
    def kernel(self) -> int:
        """Of the attention."""
        attention = self[1]
        assert isinstance(attention, ECA)
        return attention.conv.kernel_size[1]


def insert_eca(
    model: nn.Module, blocks: Sequence[str], example_inputs: Sequence[Tensor], kernel: int | None = None
) -> dict[str, ECA]:
    """Put channel attention behind blocks, in place; the network computes what it did until it is trained.

    A block called ``name`` is ``name.0`` afterwards, its attention ``name.1``.

    Args:
        model: the network.
        blocks: names of modules that return one tensor ``(batch, channels, height, width)``.
        example_inputs: the model's inputs, by one run of which channels are counted.
        kernel: odd; None: by the rule, from each block's channels.

    Raises:
        SurgeryError: a name is unknown, such a block returns something else, or has attention already.
    """
    known = dict(model.named_modules())
    seen: dict[str, int] = {}

    def note(name: str, _: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.dim() != 4:
            raise SurgeryError(f"{name!r} does not return a tensor (batch, channels, height, width): choose a block")
        seen[name] = output.shape[1]

    for name in blocks:
        if isinstance(known.get(name), Attended):
            raise SurgeryError(f"{name!r} has channel attention behind it already")
        if not name or name not in known:
            raise SurgeryError(f"{name!r} is no block of this network; named_modules() tells what there is")
    run_watched(model, example_inputs, {known[name]: name for name in blocks}, note)
    made: dict[str, ECA] = {}
    for name in sorted(dict.fromkeys(blocks), key=lambda block: -block.count(".")):  # inner ones first
        if name not in seen:
            raise SurgeryError(f"a run of the network does not reach {name!r}")
        weight = next(known[name].parameters(), torch.zeros(()))
        eca = ECA(eca_kernel(seen[name]) if kernel is None else kernel).to(weight.device, weight.dtype)
        replace_module(model, name, Attended(known[name], eca).train(known[name].training))
        made[name] = eca
    return made


def eca_scores(model: nn.Module, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Mean scale of each channel behind each ECA, by the ECA's name, ``(channels,)``: QIANets' importance of channels.

    Args:
        model: holds trained ECAs; untrained ones score every channel 1.
        inputs: calibration inputs, each ``(samples, ...)``.

    Raises:
        SurgeryError: the model holds no ECA.
    """
    names: dict[nn.Module, str] = {m: name for name, m in model.named_modules() if isinstance(m, ECA)}
    if not names:
        raise SurgeryError("this network holds no channel attention: insert_eca first, and train it")
    found: dict[str, Tensor] = {}

    def note(name: str, arguments: tuple[Tensor, ...], _: Tensor) -> None:
        module = model.get_submodule(name)
        assert isinstance(module, ECA)
        found[name] = module.scales(arguments[0]).mean(0)

    run_watched(model, inputs, names, note)
    return found


def eca_importance(
    model: nn.Module, groups: Sequence[ChannelGroup], inputs: Sequence[Tensor], ends: Mapping[str, str]
) -> dict[str, Tensor]:
    """Mean scale of each atom of channel groups, ``(atoms,)`` float64, by group; groups without attention are left out.

    Args:
        model: holds trained ECAs, each behind a module that carries a group's channels.
        groups: of the network without attention.
        inputs: calibration inputs, each ``(samples, ...)``.
        ends: ECA's name to the name, in the network without attention, of the module that it stands behind.
    """
    scores = {ends[name]: found.double() for name, found in eca_scores(model, inputs).items()}
    found = {}
    for group in groups:
        parts = []
        for member in (*group.of_role("out"), *group.of_role("channel")):
            if member.module in scores:
                parts.append(scores[member.module].cpu()[torch.from_numpy(member.index)].mean(dim=1))
        if parts:
            found[group.name] = torch.stack(parts).mean(dim=0).reshape(-1, group.atom).mean(dim=1)
    return found
