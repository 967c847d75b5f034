"""How many rows a table of embeddings may keep, and which tables are read by the tokens of an input."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from coldpress.network import run_watched
from coldpress.plan import KEEP, Option

FRACTIONS = (0.75, 0.5, 0.375, 0.25, 0.1875, 0.125)
STEP = 64
LEAST_ROWS = 512


def tables_of_inputs(model: nn.Module, example_inputs: Sequence[Tensor], names: Collection[str]) -> dict[str, int]:
    """The tables among ``names`` that are read by just what one input of the model holds, with that input's number.

    An input counts where the table goes on reading it when it is changed. One whose example is 0, 1, 2, ... does not:
    it may hold positions, and those that training data lacks would be lost.
    """
    sizes = {name: len(model.get_submodule(name).get_parameter("weight")) for name in names}
    found: dict[str, int] = {}
    for number, given in enumerate(example_inputs):
        if given.is_floating_point() or (given.shape[-1] > 1 and bool((given.diff(dim=-1) == 1).all())):
            continue
        reading = {name for name, read in _read(model, example_inputs, sizes) if torch.equal(read, given)}
        for name in reading - set(found):
            changed = [*example_inputs]
            changed[number] = (given + 1) % sizes[name]
            if any(torch.equal(read, changed[number]) for _, read in _read(model, changed, [name])):
                found[name] = number
    return found


def _read(model: nn.Module, inputs: Sequence[Tensor], names: Collection[str]) -> list[tuple[str, Tensor]]:
    """What each of these tables is given in one run; nothing where the model does not take such inputs."""
    seen: list[tuple[str, Tensor]] = []

    def note(name: str, arguments: tuple[Tensor, ...], _: Tensor) -> None:
        seen.append((name, arguments[0]))

    try:
        run_watched(model, inputs, {model.get_submodule(name): name for name in names}, note)
    except (RuntimeError, IndexError, ValueError):  # a mask, say, with other numbers in it
        return []
    return seen


def row_options(rows: int) -> tuple[Option, ...]:
    """ "keep", then how many rows stay, most first; tables of few rows only keep."""
    kept = sorted({round(fraction * rows / STEP) * STEP for fraction in FRACTIONS}, reverse=True)
    below = [count for count in kept if LEAST_ROWS <= count < rows]
    return (Option(KEEP, channels=rows), *(Option(f"{count}/{rows}", channels=count) for count in below))
