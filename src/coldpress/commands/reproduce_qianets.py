"""`coldpress reproduce qianets`: three CNNs by the public code's steps, the same corrected, and our plans."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna

from coldpress.commands import results
from coldpress.commands.subject import read_data
from coldpress.commands.terminal import out, progress_bars
from coldpress.papers.qianets import QIANets
from coldpress.papers.qianets_table import CONTROL, METHODS, PUBLISHED, SCALES, Row
from coldpress.recipe import Recipe
from coldpress.report import formats

HEADS = ("network: method", "accuracy", "drop to baseline", "drop to control", "faster", "smaller", "MACs", "zeros", "")
TITLE, WORK = "QIANets", "work"


def run(
    recipe: Recipe,
    networks: Sequence[str] | None,
    scale: str,
    changes: Mapping[str, Any],
    folder: Path,
    overwrite: bool,
) -> None:
    """Everything that is not in the folder yet; ``changes`` are to the scale."""
    results.check_scale(scale, SCALES)
    amount, names = replace(SCALES[scale], **changes), tuple(PUBLISHED if networks is None else networks)
    settings = results.same(data=recipe.data, scale=asdict(amount))
    earlier = results.begin(folder, overwrite, settings)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    known = [Row(**row) for row in earlier.get("rows", [])]
    data = read_data(recipe)
    head = results.head(recipe, scale=scale, settings=settings, published={n: asdict(p) for n, p in PUBLISHED.items()})
    found: list[Row] = []
    rows = known

    def keep() -> None:
        results.write(folder, {**head, "rows": [asdict(row) for row in rows]}, markdown(rows))

    with progress_bars() as tell:
        experiment = QIANets(data, amount, names, folder / WORK, known, tell)
        if not earlier:
            shutil.rmtree(folder / WORK, ignore_errors=True)  # baselines and searches of what is replaced
        keep()  # at once, so that a run that is stopped in the first baseline can go on
        for row in experiment.stages():  # each is kept as soon as it is there, beside those of the run before
            found.append(row)
            there = {row.name for row in found}
            rows = [*found, *(row for row in known if row.name not in there)]
            keep()
    out.print(results.shown(TITLE, HEADS, all_cells(rows)))
    out.print(f"Wrote {folder}: {results.RESULTS}, {results.TABLE}", highlight=False, soft_wrap=True)


def all_cells(rows: Sequence[Row]) -> list[list[str]]:
    """Figures as words, means over seeds with least and most: for each network what is published, then every method."""
    lines = []
    for network in dict.fromkeys(row.network for row in rows):
        theirs = PUBLISHED[network]
        lines.append(
            [
                f"{network}: published, on another machine",
                formats.percent(theirs.after, 2),
                f"{100 * (theirs.before - theirs.after):.2f}",
                "",
                f"{theirs.faster:.2f} x",
                f"{theirs.smaller:.2f} x",
                "",
                "",
                "no error bars",
            ]
        )
        own = [row for row in rows if row.network == network]
        control = {row.seed: accuracy(row) for row in own if row.method == CONTROL and row.metrics}
        for method in METHODS:
            same = [row for row in own if row.method == method]
            if same:
                lines.append(_cells(f"{network}: {method}", same, control))
    return lines


def accuracy(row: Row) -> float:
    """On test data."""
    return float(row.metrics["compressed"]["accuracy"])


def markdown(rows: Sequence[Row]) -> str:
    """For a page."""
    return results.as_markdown(HEADS, all_cells(rows))


def _cells(title: str, rows: Sequence[Row], control: Mapping[int, float]) -> list[str]:
    done = [row for row in rows if row.metrics]
    if not done:
        return [title, *[""] * 7, rows[0].note]

    def spread(value: Callable[[Row], float], digits: int, end: str = "") -> str:
        values = [value(row) for row in done]
        mean = f"{sum(values) / len(values):.{digits}f}{end}"
        return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"

    def before(row: Row) -> Mapping[str, Any]:
        return dict(row.metrics["original"])

    def after(row: Row) -> Mapping[str, Any]:
        return dict(row.metrics["compressed"])

    compared = all(row.seed in control for row in done)
    return [
        title,
        spread(lambda row: 100 * accuracy(row), 2, " %"),
        spread(lambda row: 100 * (before(row)["accuracy"] - accuracy(row)), 2),
        spread(lambda row: 100 * (control[row.seed] - accuracy(row)), 2) if compared else "",
        spread(lambda row: before(row)["latency_ms"]["median"] / after(row)["latency_ms"]["median"], 2, " x"),
        spread(lambda row: before(row)["file_bytes"] / after(row)["file_bytes"], 2, " x"),
        spread(lambda row: 100 * after(row)["macs"] / before(row)["macs"], 1, " %"),
        spread(lambda row: 100 * after(row)["sparsity"], 1, " %"),
        f"{len(done)} seeds" if len(done) > 1 else "",
    ]
