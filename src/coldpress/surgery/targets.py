"""What layers are re-fitted to: at each of their calls, the teacher's outputs or the sums that they end in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from coldpress.network import evaluating, token_mask
from coldpress.surgery.events import Event, Shortcut, watching
from coldpress.surgery.moments import output_rows, real_rows, sample_positions

Calls = Mapping[str, Sequence[int]]
"""The events of each layer's calls, by its name."""
ByEvent = Mapping[int, Sequence[tuple[str, int]]]
"""Layers and their calls, by an event."""


def calls_of(layers: Sequence[str], events: Sequence[Event]) -> dict[str, list[int]]:
    """The calls of the layers that are called at all."""
    found: dict[str, list[int]] = {name: [] for name in layers}
    for number, event in enumerate(events):
        if event.name in found:
            found[event.name].append(number)
    return {name: numbers for name, numbers in found.items() if numbers}


def by_event(layers: Sequence[str], calls: Calls, event_of: Callable[[int], int | None]) -> ByEvent:
    """The layers' calls by the event that ``event_of`` tells for each; without those for which it tells none."""
    found: dict[int, list[tuple[str, int]]] = {}
    for name in layers:
        for call in calls[name]:
            if (event := event_of(call)) is not None:
                found.setdefault(event, []).append((name, call))
    return found


def stages(layers: Sequence[str], calls: Calls) -> list[list[str]]:
    """The layers in the order of their first calls, cut so that one pass can fit each part.

    What is called once is fitted right before it runs; what is called again needs a pass that sees all its calls.
    """
    found: list[list[str]] = []
    alone = True
    for name in sorted(layers, key=lambda name: calls[name][0]):
        if alone or len(calls[name]) > 1:
            found.append([])
        found[-1].append(name)
        alone = len(calls[name]) > 1
    return found


def positions_of(
    teacher: nn.Module, layers: Sequence[str], calls: Calls, inputs: Sequence[Tensor], seed: int
) -> dict[int, Tensor]:
    """Positions to look at, by the event of the call; all calls of a layer together give the wanted rows."""
    generator, mask = torch.Generator().manual_seed(seed), token_mask(inputs)
    found: dict[int, Tensor] = {}
    handles = []
    for name in layers:
        module, waiting, images = teacher.get_submodule(name), list(calls[name]), len(inputs[0]) * len(calls[name])

        def note(
            module: nn.Module, arguments: tuple[Tensor, ...], waiting: list[int] = waiting, images: int = images
        ) -> None:
            found[waiting.pop(0)] = sample_positions(module, arguments[0], images, generator, mask)

        handles.append(module.register_forward_pre_hook(note))
    try:
        with evaluating(teacher):
            teacher(*[tensor[:2] for tensor in inputs])
    finally:
        for handle in handles:
            handle.remove()
    return found


def targets_of(
    teacher: nn.Module,
    opaque: Sequence[str],
    layers: Sequence[str],
    ends: Mapping[int, Shortcut],
    calls: Calls,
    positions: Mapping[int, Tensor],
    inputs: Sequence[Tensor],
    batch_size: int,
) -> dict[int, Tensor]:
    """The teacher's rows that each call shall reproduce, by its event: its own output, or the sum that it ends in.

    Those of real tokens alone: all layers' are held at once.
    """
    mask, now = token_mask(inputs), slice(0)
    events = by_event(layers, calls, lambda call: ends[call].total if call in ends else call)
    parts: dict[int, list[Tensor]] = {call: [] for name in layers for call in calls[name]}

    def watch(number: int, name: str, sources: Sequence[Tensor], output: Tensor) -> None:
        for layer, call in events.get(number, ()):
            module = teacher.get_submodule(layer)
            rows = output_rows(module, output, positions[call])
            real = real_rows(module, output, positions[call], None if mask is None else mask[now])
            parts[call].append(rows if real is None else rows[real])

    for start in range(0, len(inputs[0]), batch_size):
        now = slice(start, start + batch_size)
        batch = [tensor[now] for tensor in inputs]
        with watching(teacher, opaque, watch) as run:
            run(*batch)
    return {call: torch.cat(rows) for call, rows in parts.items()}


class Sums:
    """Second moments of a layer's inputs and their products with its targets, over all its calls."""

    def __init__(self) -> None:
        self.inputs: Tensor | float = 0.0
        self.products: Tensor | float = 0.0
        self.rows = 0

    def add(self, rows: Tensor, target: Tensor) -> None:
        """Take in rows ``(rows, columns + 1)`` and their targets ``(rows, outputs)``."""
        self.add_sums((rows.T @ rows).double(), (target.T @ rows).double(), len(rows))

    def add_sums(self, inputs: Tensor, products: Tensor, rows: int) -> None:
        """Take in what so many rows sum up to; of a grouped convolution the groups come first."""
        self.inputs = self.inputs + inputs
        self.products = self.products + products
        self.rows += rows

    def means(self) -> tuple[Tensor, Tensor]:
        """Both sums, a row."""
        assert isinstance(self.inputs, Tensor)
        assert isinstance(self.products, Tensor)
        return self.inputs / self.rows, self.products / self.rows
