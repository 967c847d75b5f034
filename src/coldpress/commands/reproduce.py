"""`coldpress reproduce`: published systems on data of one's own, as published and corrected."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from rich.markup import escape
from rich.table import Table

from coldpress.artifact import check_output
from coldpress.commands.subject import read_task
from coldpress.commands.terminal import out, progress_bars
from coldpress.errors import TaskError
from coldpress.files import write_text
from coldpress.papers.edge_pruning import SCALES, EdgePruning, Row
from coldpress.proof import reproduce_command, versions
from coldpress.recipe import Recipe
from coldpress.recovery.parallel import check_alone
from coldpress.report import formats
from coldpress.runtime.devices import device

HEADS = ("", "accuracy", "95 % interval", "ms a sample", "MB", "zeros", "")


def edge_pruning(recipe: Recipe, scale: str, folder: Path, overwrite: bool, settings: dict[str, Any]) -> None:
    """The q-bit search of transformers: published, as published on this task, and corrected."""
    if scale not in SCALES:
        raise TaskError(f"scale is {scale!r}; choose {', '.join(SCALES)}")
    check_alone("reproduce")
    check_output(folder, overwrite)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    task = read_task(recipe)
    if task.validation is None or task.test is None:
        raise TaskError("searching, choosing and reporting need data of their own: give train, validation and test")
    folder.mkdir(parents=True, exist_ok=True)
    head = {"command": reproduce_command(), "versions": versions(), "device": device(1).summary(), "scale": scale}
    head |= {"model": recipe.model, "data": recipe.data}
    rows: list[Row] = []
    with progress_bars() as tell:
        experiment = EdgePruning(task, SCALES[scale], tell)
        for found in experiment.stages(**settings):
            rows += found  # kept as soon as it is there
            write_text(folder / "results.json", json.dumps({**head, "rows": [asdict(row) for row in rows]}, indent=1))
            write_text(folder / "table.md", markdown(rows))
    with (folder / "iterations.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(experiment.log[0]))
        writer.writeheader()
        writer.writerows(experiment.log)
    out.print(table(rows))
    out.print(f"Wrote {folder}: results.json, table.md, iterations.csv", highlight=False, soft_wrap=True)


def cells(row: Row) -> list[str]:
    """A row's figures as words; of several seeds the mean, and least to most."""
    low, high = min(row.accuracies), max(row.accuracies)
    spread = f" ({formats.percent(low, 2)} to {formats.percent(high, 2)})" if len(row.accuracies) > 1 else ""
    return [
        f"{row.kind}: {row.name}",
        formats.percent(row.accuracy, 2) + spread,
        formats.interval(row.interval) if row.interval else "",
        f"{row.milliseconds:.2f}" if row.milliseconds is not None else "",
        f"{row.megabytes:.1f}" if row.megabytes is not None else "",
        formats.percent(row.sparsity),
        row.note,
    ]


def table(rows: Sequence[Row]) -> Table:
    """For the terminal."""
    found = Table(title="Edge pruning by a q-bit search", title_style="dim")
    for i, head in enumerate(HEADS):
        found.add_column(head, justify="right" if 0 < i < len(HEADS) - 1 else "left")
    for row in rows:
        found.add_row(*map(escape, cells(row)))
    return found


def markdown(rows: Sequence[Row]) -> str:
    """For a page."""
    lines = [f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
    return "\n".join([*lines, *(f"| {' | '.join(cells(row))} |" for row in rows)]) + "\n"
