"""Hints: a compressed network is also taught by what runs inside the original (Romero et al. 2015, arXiv:1412.6550).

The activations compared are those that residual streams carry, at the channels that the plan keeps: surgery has
re-fitted the compressed network to these very ones. Channels within a block are free, as others took over what went.
Where a student's channels are not some of the teacher's, a linear projection to these is learned along with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from coldpress.network import under
from coldpress.plan import Plan, Space
from coldpress.recovery.projections import Projections, channel_axis


def stream_inputs(space: Space, plan: Plan) -> dict[str, Tensor]:
    """Layers that read a residual stream, with the channels of their original input that remain, ``(kept,)``.

    Layers of what is dropped, and those that read channels of one producer, or alone read those of several (heads,
    gated neurons), are not among them.
    """
    gone_modules = space.gone(plan.choices)
    found: dict[str, Tensor] = {}
    inner: set[str] = set()
    lost: dict[str, list[int]] = {}
    for name, group in space.groups.items():
        kept = set(plan.kept.get(name, range(group.channels)))
        for member in group.of_role("in"):
            if len(group.of_role("out")) < 2 or len(group.of_role("in")) < 2:
                inner.add(member.module)
            lost.setdefault(member.module, []).extend(
                int(i) for channel, rows in enumerate(member.index) if channel not in kept for i in rows
            )
    for site in space.sites:
        looked_up = site.shape.kind == "embedding"
        if site.name in inner or under(site.name, gone_modules) or site.shape.groups > 1 or looked_up:
            continue
        gone = set(lost.get(site.name, ()))
        found[site.name] = torch.tensor([i for i in range(site.shape.in_channels) if i not in gone])
    return found


class Hints:
    """Distance between a student's and its teacher's activations, while the context lasts.

    Args:
        student, teacher: networks whose modules have the same names.
        channels: by module: which of the teacher's input channels the student's input consists of, ``(kept,)``; None
            where ``projections`` has a map (see `channel_axis` for what a channel is).
        projections: the maps of the hints without channels.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        channels: Mapping[str, Tensor | None],
        projections: Projections | None = None,
    ) -> None:
        self.student, self.teacher, self.channels, self.projections = student, teacher, channels, projections
        self._handles: list[torch.utils.hooks.RemovableHandle] = []
        self._seen: dict[str, Tensor] = {}
        self._wanted: dict[str, Tensor] = {}

    def __enter__(self) -> Hints:
        for name in self.channels:
            for network, store in ((self.student, self._seen), (self.teacher, self._wanted)):
                self._handles.append(network.get_submodule(name).register_forward_pre_hook(self._keep(name, store)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep(self, name: str, store: dict[str, Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            if self.student.training:
                store[name] = arguments[0]

        return keep

    def distance(self) -> Tensor | float:
        """Squared error relative to the teacher's activations, mean over streams; of the last pass of both."""
        total: Tensor | float = 0.0
        count = 0
        known: set[int] = set()
        for name, wanted in self._wanted.items():
            seen = self._seen.get(name)
            if seen is None or seen is wanted or wanted.data_ptr() in known:
                continue  # the network's own input, or activations that several layers read
            known.add(wanted.data_ptr())
            axis, rows = channel_axis(wanted), self.channels[name]
            if self.projections is not None:
                seen = self.projections.project(name, seen)
            if rows is not None and len(rows) < wanted.shape[axis]:
                wanted = wanted.index_select(axis, rows.to(wanted.device))
            size = torch.linalg.vector_norm(wanted, dtype=torch.float32).square()
            total = total + _SquaredError.apply(seen, wanted) / size.clamp(min=1e-12 * wanted.numel())
            count += 1
        self._seen.clear()
        self._wanted.clear()
        return total / max(count, 1)


class _SquaredError(torch.autograd.Function):
    """Sum of squared differences from a constant, in float32; one pass each way, where autograd would make six."""

    @staticmethod
    def forward(ctx: Any, seen: Tensor, wanted: Tensor) -> Tensor:
        difference = seen - wanted
        ctx.save_for_backward(difference)
        ctx.kind = seen.dtype
        return torch.linalg.vector_norm(difference, dtype=torch.float32).square()

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]  # torch does not type its decorator
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (difference,) = ctx.saved_tensors
        return (difference * (2 * gradient).to(difference.dtype)).to(ctx.kind), None
