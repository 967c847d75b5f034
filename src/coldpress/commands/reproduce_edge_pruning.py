"""`coldpress reproduce edge-pruning`: the q-bit search of masks, as published and corrected."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna

from coldpress.commands import results
from coldpress.commands.subject import read_task
from coldpress.commands.terminal import out, progress_bars
from coldpress.errors import TaskError
from coldpress.files import write_text
from coldpress.keys import digests
from coldpress.papers.edge_pruning import EdgePruning
from coldpress.papers.edge_pruning_figure import svg
from coldpress.papers.edge_pruning_table import SCALES, Row
from coldpress.recipe import Recipe
from coldpress.report import formats

HEADS = ("", "accuracy", "95 % interval", "change, points", "ms a sample", "MB", "zeros", "")
TITLE, WORK, ITERATIONS, FIGURE = "Edge pruning by a q-bit search", "work", "iterations.csv", "figure.svg"


def run(recipe: Recipe, scale: str, folder: Path, overwrite: bool, settings: dict[str, Any]) -> None:
    """The q-bit search of transformers: published, as published on this task, and corrected; what is not there yet."""
    results.check_scale(scale, SCALES)
    task = read_task(recipe)
    if task.validation is None or task.test is None:
        raise TaskError("searching, choosing and reporting need data of their own: give train, validation and test")
    given = {name: getattr(recipe, name) for name in ("model", "weights", "data", "seed")}
    same = results.same(**given, **digests(task), scale=asdict(SCALES[scale]))
    earlier = results.begin(folder, overwrite, same)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = [Row(**row) for row in earlier.get("rows", []) if row["accuracy"] is not None]
    head = results.head(recipe, scale=scale, settings=same)
    if not earlier:
        shutil.rmtree(folder / WORK, ignore_errors=True)
    rows: list[Row] = []
    with progress_bars() as tell:
        experiment = EdgePruning(task, SCALES[scale], folder / WORK, known, tell)
        for row in experiment.stages(**settings):  # each is kept as soon as it is there, and those of the run before
            rows.append(row)
            there = {row.name for row in rows}
            both = [*rows, *(row for row in known if row.name not in there)]
            results.write(folder, {**head, "rows": [asdict(row) for row in both]}, markdown(both))
        rows = experiment.timed(rows)
        results.write(folder, {**head, "rows": [asdict(row) for row in rows]}, markdown(rows))
    write_iterations(rows, folder / ITERATIONS)
    write_text(folder / FIGURE, svg(rows))
    out.print(results.shown(TITLE, HEADS, all_cells(rows)))
    files = ", ".join((results.RESULTS, results.TABLE, ITERATIONS, FIGURE))
    out.print(f"Wrote {folder}: {files}", highlight=False, soft_wrap=True)


def write_iterations(rows: Sequence[Row], path: Path) -> None:
    """The published search, iteration by iteration."""
    entries = next(row.facts["iterations"] for row in rows if "iterations" in row.facts)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(entries[0]))
        writer.writeheader()
        writer.writerows(entries)


def all_cells(rows: Sequence[Row]) -> list[list[str]]:
    """Every method's figures as words: means over seeds, and least to most."""
    names = dict.fromkeys((row.kind, row.method) for row in rows)
    return [_cells([row for row in rows if (row.kind, row.method) == name]) for name in names]


def markdown(rows: Sequence[Row]) -> str:
    """For a page."""
    return results.as_markdown(HEADS, all_cells(rows))


def _cells(rows: Sequence[Row]) -> list[str]:
    title, done = f"{rows[0].kind}: {rows[0].method}", [row for row in rows if row.accuracy is not None]
    if not done:
        return [title, *[""] * 6, rows[0].note]

    def spread(value: Callable[[Row], float | None], show: Callable[[float], str]) -> str:
        values = [found for row in done if (found := value(row)) is not None]
        if not values:
            return ""
        mean = show(sum(values) / len(values))
        return mean if len(values) == 1 else f"{mean} ({show(min(values))} to {show(max(values))})"

    def change(row: Row) -> float | None:
        found = row.facts.get("comparison")
        return None if found is None else float(found["difference"])

    seeds = f"; {len(done)} seeds" if len(done) > 1 else ""
    interval = formats.interval(done[0].interval) + (" (first seed)" if seeds else "") if done[0].interval else ""
    if len(done) < len(rows):
        seeds = f"; {len(done)} of {len(rows)} seeds, " + next(row.note for row in rows if row.accuracy is None)
    kept = sum(row.facts.get("best_epoch") == 0 for row in done)
    left = f"; {kept} of {len(done)} no better by validation data, and left as they were" if kept else ""
    return [
        title,
        spread(lambda row: row.accuracy, lambda v: formats.percent(v, 2)),
        interval,
        spread(change, formats.signed),
        spread(lambda row: row.milliseconds, lambda v: f"{v:.2f}"),
        spread(lambda row: row.megabytes, lambda v: f"{v:.1f}"),
        spread(lambda row: row.sparsity, formats.percent),
        done[0].note + left + seeds,
    ]
