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
from coldpress.papers.qianets_table import AT_RATIO, CONTROL, CONTROLS, METHODS, OURS, PUBLISHED, SCALES, Row
from coldpress.recipe import Recipe
from coldpress.report import formats

HEADS = (
    "network: method",
    "accuracy",
    "drop to baseline",
    "drop to control",
    "ms an image",
    "faster",
    "smaller",
    "parameters",
    "MACs",
    "zeros",
    "",
)
SIDES = {"corrected, channels alone": AT_RATIO, "coldpress, the same ratios asked": OURS}
BESIDE = ("drop in points, faster, smaller", "published, on another machine", *SIDES)
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
    out.print(results.shown(f"{TITLE}, side by side", BESIDE, beside(rows)))
    out.print(f"Wrote {folder}: {results.RESULTS}, {results.TABLE}", highlight=False, soft_wrap=True)


def all_cells(rows: Sequence[Row]) -> list[list[str]]:
    """Figures as words, means over seeds with least and most: for each network what is published, then every method.

    Of a single seed the drops have their paired 95 % intervals, the accuracy its own, and times those of the runs that
    were timed.
    """
    lines = []
    for network in dict.fromkeys(row.network for row in rows):
        theirs = PUBLISHED[network]
        drop = f"{100 * (theirs.before - theirs.after):.2f}"
        ratios = f"{theirs.faster:.2f} x", f"{theirs.smaller:.2f} x"
        title = f"{network}: published, on another machine"
        lines.append([title, formats.percent(theirs.after, 2), drop, "", "", *ratios, "", "", "", "no error bars"])
        own = [row for row in rows if row.network == network]
        for method in METHODS:
            same = [row for row in own if row.method == method]
            control = {row.seed: row for row in own if row.method == CONTROLS.get(method, CONTROL) and row.metrics}
            if same:
                lines.append(_cells(f"{network}: {method}", same, control))
    return lines


def accuracy(row: Row) -> float:
    """On test data."""
    return float(row.metrics["compressed"]["accuracy"])


def markdown(rows: Sequence[Row]) -> str:
    """For a page."""
    return f"{results.as_markdown(BESIDE, beside(rows))}\n{results.as_markdown(HEADS, all_cells(rows))}"


def beside(rows: Sequence[Row]) -> list[list[str]]:
    """What is published, what the corrected method and what our plan make of each network: the means over seeds.

    A cell says so where it rests on fewer seeds than the network has.
    """
    lines = []
    for network in dict.fromkeys(row.network for row in rows):
        theirs, cells = PUBLISHED[network], []
        seeds = len({row.seed for row in rows if row.network == network})
        for method in SIDES.values():
            done = [r for r in rows if (r.network, r.method) == (network, method) and r.metrics]
            few = f" ({_seeds(len(done), seeds)})" if len(done) < seeds else ""
            cells.append(_three([_before_over_after(row) for row in done]) + few if done else "")
        lines.append([network, _three([(100 * (theirs.before - theirs.after), theirs.faster, theirs.smaller)]), *cells])
    return lines


def _before_over_after(row: Row) -> tuple[float, float, float]:
    """The drop in points, and how many times faster and smaller."""
    first, second = row.metrics["original"], row.metrics["compressed"]
    faster = first["latency_ms"]["median"] / second["latency_ms"]["median"]
    return 100 * (first["accuracy"] - second["accuracy"]), faster, first["file_bytes"] / second["file_bytes"]


def _three(values: Sequence[tuple[float, float, float]]) -> str:
    drop, faster, smaller = (sum(column) / len(values) for column in zip(*values))
    return f"{drop:.2f}, {faster:.2f} x, {smaller:.2f} x"


def _seeds(done: int, all_seeds: int) -> str:
    return f"{done} seeds" if done == all_seeds else f"{done} of {all_seeds} seeds"


def _cells(title: str, rows: Sequence[Row], control: Mapping[int, Row]) -> list[str]:
    done = [row for row in rows if row.metrics]
    notes = list(dict.fromkeys(row.note for row in rows if row.note))
    if not done:
        return [title, *[""] * (len(HEADS) - 2), "; ".join(notes)]

    def spread(value: Callable[[Row], float], digits: int, end: str = "", interval: Sequence[float] = ()) -> str:
        values = [value(row) for row in done]
        mean = f"{sum(values) / len(values):.{digits}f}{end}"
        low, high = (min(values), max(values)) if len(values) > 1 else (interval or (None, None))
        return mean if low is None or high is None else f"{mean} ({low:.{digits}f} to {high:.{digits}f})"

    def before(row: Row) -> Mapping[str, Any]:
        return dict(row.metrics["original"])

    def after(row: Row) -> Mapping[str, Any]:
        return dict(row.metrics["compressed"])

    def ratio(value: Callable[[Mapping[str, Any]], float], interval: Sequence[float] = ()) -> str:
        return spread(lambda row: value(before(row)) / value(after(row)), 2, " x", interval)

    first = done[0].metrics
    compared = all(row.seed in control for row in done)
    times = first.get("intervals", {})
    return [
        title,
        spread(lambda row: 100 * accuracy(row), 2, " %", [100 * x for x in first["compressed"]["accuracy_interval"]]),
        spread(lambda row: 100 * (before(row)["accuracy"] - accuracy(row)), 2, "", _lost(first, "comparison")),
        spread(lambda row: 100 * (accuracy(control[row.seed]) - accuracy(row)), 2, "", _lost(first, "control"))
        if compared
        else "",
        spread(lambda row: after(row)["latency_ms"]["median"], 3, "", times.get("latency_ms", ())),
        ratio(lambda side: side["latency_ms"]["median"], times.get("faster", ())),
        ratio(lambda side: side["file_bytes"]),
        ratio(lambda side: side["parameters"]),
        spread(lambda row: 100 * after(row)["macs"] / before(row)["macs"], 1, " %"),
        spread(lambda row: 100 * after(row)["sparsity"], 1, " %"),
        "; ".join([*([_seeds(len(done), len(rows))] if len(rows) > 1 else []), *notes]),
    ]


def _lost(metrics: Mapping[str, Any], against: str) -> list[float]:
    """The paired 95 % interval of the accuracy lost, in points; empty where the two were not compared."""
    found = metrics.get(against)
    return [-100 * edge for edge in reversed(found["difference_interval"])] if found else []
