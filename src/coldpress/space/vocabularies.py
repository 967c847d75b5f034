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
    """The tables among ``names`` that are read by just what an input of the model holds, with that input's number."""
    found: dict[str, int] = {}

    def note(name: str, arguments: tuple[Tensor, ...], _: Tensor) -> None:
        for number, given in enumerate(example_inputs):
            if arguments and arguments[0].shape == given.shape and torch.equal(arguments[0], given):
                found.setdefault(name, number)

    run_watched(model, example_inputs, {model.get_submodule(name): name for name in names}, note)
    return found


def row_options(rows: int) -> tuple[Option, ...]:
    """ "keep", then how many rows stay, most first; tables of few rows only keep."""
    kept = sorted({round(fraction * rows / STEP) * STEP for fraction in FRACTIONS}, reverse=True)
    below = [count for count in kept if LEAST_ROWS <= count < rows]
    return (Option(KEEP, channels=rows), *(Option(f"{count}/{rows}", channels=count) for count in below))
