"""Projections: where a student's channels are not some of its teacher's, a linear map between them is learned along.

It is trained with the student and thrown away afterwards (Romero et al. 2015, arXiv:1412.6550).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from coldpress.errors import TaskError
from coldpress.network import evaluating

RIDGE = 1e-3
"""Of the mean square of the student's activations, where a map is fitted."""


class Projections(nn.Module):
    """A linear map for each hint that names no channels, from the student's to the teacher's; least squares at first.

    Args:
        student, teacher: networks whose modules have the same names.
        hints: those whose channels are None get a map.
        inputs: of both, ``(samples, ...)`` each; the maps are fitted on them.

    Raises:
        TaskError: a module is not in both, or their activations differ in more than channels.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, hints: Mapping[str, Tensor | None], inputs: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self.names = [name for name, channels in hints.items() if channels is None]
        self.maps = nn.ParameterList()
        read = [_read(network, self.names, inputs) for network in (student, teacher)]
        for name in self.names:
            own, wanted = (found[name] for found in read)
            if own.shape[:-1] != wanted.shape[:-1]:
                raise TaskError(
                    f"what {name!r} reads is {tuple(own.shape)} in the student and {tuple(wanted.shape)} in the "
                    "teacher, channels last; only channels can be projected: leave this hint out"
                )
            self.maps.append(nn.Parameter(_fitted(own.flatten(0, -2), wanted.flatten(0, -2))))

    def project(self, name: str, seen: Tensor) -> Tensor:
        """The student's activations in the teacher's channels; as they are where no map is learned."""
        if name not in self.names:
            return seen
        axis = channel_axis(seen)
        return (seen.float().movedim(axis, -1) @ self.maps[self.names.index(name)]).movedim(-1, axis)


def channel_axis(activations: Tensor) -> int:
    """The dimension of channels: 1 of an image's activations, the last one of all others."""
    return 1 if activations.dim() == 4 else -1


def _fitted(own: Tensor, wanted: Tensor) -> Tensor:
    """The map ``(own channels, wanted channels)`` of least squares between activations ``(positions, channels)``."""
    own, wanted = own.double().cpu(), wanted.double().cpu()
    products = own.T @ own
    products += RIDGE * products.diagonal().mean().clamp(min=1e-12) * torch.eye(len(products), dtype=torch.float64)
    return torch.linalg.solve(products, own.T @ wanted).float()


def _read(network: nn.Module, names: Sequence[str], inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """What modules read in one run, channels last."""
    found: dict[str, Tensor] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            found[name] = arguments[0].movedim(channel_axis(arguments[0]), -1).clone()

        return keep

    modules = dict(network.named_modules())
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    with ExitStack() as hooks, evaluating(network):
        for name in names:
            if name in modules:
                hooks.callback(modules[name].register_forward_pre_hook(note(name)).remove)
        if names:
            network(*(tensor.to(device) for tensor in inputs))
    missing = [name for name in names if name not in found]
    if missing:
        raise TaskError(f"the hint {missing[0]!r} names no layer that runs in {type(network).__name__}; leave it out")
    return found
