"""`coldpress reproduce edge-pruning`: the q-bit search of masks, as published and corrected."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna

from coldpress.commands import results
from coldpress.commands.subject import read_task
from coldpress.commands.terminal import out, progress_bars
from coldpress.errors import TaskError
from coldpress.papers.edge_pruning import SCALES, EdgePruning, Row
from coldpress.recipe import Recipe
from coldpress.report import formats

HEADS = ("", "accuracy", "95 % interval", "ms a sample", "MB", "zeros", "")


def run(recipe: Recipe, scale: str, folder: Path, overwrite: bool, settings: dict[str, Any]) -> None:
    """The q-bit search of transformers: published, as published on this task, and corrected."""
    results.check_scale(scale, SCALES)
    results.begin(folder, overwrite)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    task = read_task(recipe)
    if task.validation is None or task.test is None:
        raise TaskError("searching, choosing and reporting need data of their own: give train, validation and test")
    head = results.head(recipe, scale=scale)
    rows: list[Row] = []
    with progress_bars() as tell:
        experiment = EdgePruning(task, SCALES[scale], tell)
        for found in experiment.stages(**settings):
            rows += found  # kept as soon as it is there
            results.write(folder, {**head, "rows": [asdict(row) for row in rows]}, markdown(rows))
    with (folder / "iterations.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(experiment.log[0]))
        writer.writeheader()
        writer.writerows(experiment.log)
    out.print(results.shown("Edge pruning by a q-bit search", HEADS, [cells(row) for row in rows]))
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


def markdown(rows: Sequence[Row]) -> str:
    """For a page."""
    return results.as_markdown(HEADS, [cells(row) for row in rows])
