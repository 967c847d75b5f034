"""The page of a contest of solvers: a table and two figures a family, from its results.json."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coldpress.files import write_text
from coldpress.report import axes, formats
from coldpress.report.figures import Figure, histograms
from coldpress.report.page import environment

Json = Mapping[str, Any]
COLOURED = 6
"""Solvers that are told apart by colour, the best ones."""
LEAST_READS = 10
FLOOR = 1e-6
"""The gap that stands for none on logarithmic axes."""

HEADS = (
    ("solver", ""),
    ("gap to best", "median of how far the best energy in time lies above the least that any run met; 25 to 75 %"),
    (
        "gap to bound",
        "the same against the highest proven lower bound, relative to the energy; a dash where nothing is proven",
    ),
    ("success", "runs that came to the target: the best known energy, or that little above it; 95 % interval (Wilson)"),
    (
        "to target",
        "median seconds until a run was there; a dash where half of them never were; below, the same in plans "
        "evaluated, where a solver counts them, or how many it evaluated in all",
    ),
    ("99 %", "seconds until one of repeated runs is there with 99 % certainty, at the best length of runs"),
    ("distinct", "share of a run's reads that are unlike each other; how many reads there were in all"),
    ("apart", "mean share of entries (bits or options) in which a run's reads differ; below, the best of two seeds"),
    (
        "more",
        "of penalty forms, reads that kept one-hot and limits as they were; of embeddings, broken chains",
    ),
)


@dataclass(frozen=True)
class Cell:
    """A figure of the table, what stands below it, and whether it is the column's best."""

    text: str
    note: str = ""
    best: bool = False


def render(results: Json, path: Path) -> Path:
    """Write the page of ``results``, as `coldpress.commands.benchmark` puts them together.

    Raises:
        OSError: it cannot be written.
    """
    found = [_family(name, one, results["rows"], results["refused"]) for name, one in results["families"].items()]
    settings = results["settings"]
    rows = results["rows"]
    solvers = len({row["solver"] for row in rows})
    lede = (
        f"{settings['seeds']} seeds each, {formats.three(settings['seconds'])} seconds of wall time and one thread a "
        "run. The target is the best energy known of an instance"
        + (f", or {formats.percent(settings['within'], 2)} above." if settings["within"] else " itself.")
    )
    content = {
        "families": found,
        "solvers": solvers,
        "lede": lede,
        "heads": HEADS,
        "warnings": results["warnings"],
        "refused": {k: why for k, why in results["refused"].items() if k.split(": ")[0] not in results["families"]},
        "command": results["command"],
        "facts": {**results["versions"], **{k: v for k, v in results["machine"].items() if isinstance(v, str | int)}},
    }
    return write_text(path, environment().get_template("contest.html.j2").render(content))


def ordered(rows: Sequence[Json]) -> list[Json]:
    """Best first: by gap, then by successes, then by time to target."""

    def key(row: Json) -> tuple[float, float, float]:
        return _or_inf(row["gap_to_best"][1]), -row["successes"], _or_inf(row["time_to_target"])

    return sorted(rows, key=key)


def gap_text(value: float | None) -> str:
    """A gap as a percentage, of as many digits as it has."""
    if value is None:
        return formats.DASH
    return "0 %" if value == 0 else f"{formats.three(100 * value)} %" if value >= 1e-6 else "< 0.0001 %"


def seconds_text(value: float | None) -> str:
    """Seconds, to three digits."""
    return f"{formats.three(value)} s" if formats.known(value) else formats.DASH


def evaluations_text(row: Json) -> str:
    """Plans evaluated until the target, or else in all; nothing where they were not counted."""
    reached, total = row.get("evaluations_to_target"), row.get("evaluations")
    if reached is not None:
        return f"{reached:,.0f} plans"
    return "" if total is None else f"{total:,.0f} plans in all"


def by_reason(name: str, refused: Json) -> list[tuple[str, str]]:
    """Who was given no instance of a family, and why: names together where the reason is one."""
    found: dict[str, list[str]] = {}
    for key, why in refused.items():
        family, _, solver = key.partition(": ")
        if family == name:
            found.setdefault(why, []).append(solver)
    return [(", ".join(solvers), why) for why, solvers in found.items()]


def _family(name: str, one: Json, rows: Sequence[Json], refused: Json) -> dict[str, Any]:
    own = ordered([row for row in rows if row["family"] == name])
    colours = {row["solver"]: f"c{i}" if i < COLOURED else "other" for i, row in enumerate(own)}
    shown = [
        {"solver": row["solver"], "title": one["solvers"][row["solver"]], "css": colours[row["solver"]], "cells": cells}
        for row, cells in zip(own, _cells(own))
    ]
    figures = [*_anytime(own, colours), *_reads(own, colours)]
    heads = HEADS[: 1 + len(shown[0]["cells"])] if shown else ()
    words = {"name": name, "title": one["title"], "facts": one["facts"]}
    return {**words, "heads": heads, "rows": shown, "left_out": by_reason(name, refused), "figures": figures}


def _cells(rows: Sequence[Json]) -> list[list[Cell]]:
    least = {
        name: min((value for row in rows if (value := pick(row)) is not None), default=None)
        for name, pick in _PICKS.items()
    }
    found = []
    for row in rows:
        best = {name: least[name] is not None and pick(row) == least[name] for name, pick in _PICKS.items()}
        low, _, high = row["gap_to_best"]
        bound = row["gap_to_bound"]
        interval = formats.interval(row["success_interval"])
        more = [f"{name} {_more(name, value)}" for name, value in row["more"].items()]
        distinct, distance, between = row["distinct_share"], row["distance"], row["distance_of_best"]
        found.append([
            Cell(gap_text(row["gap_to_best"][1]), f"{gap_text(low)} to {gap_text(high)}", best["gap"]),
            Cell(gap_text(bound[1]) if bound else formats.DASH),
            Cell(f"{row['successes']} of {row['runs']}", interval),
            Cell(seconds_text(row["time_to_target"]), evaluations_text(row), best["target"]),
            Cell(seconds_text(row["time_to_solution"]), "", best["solution"]),
            Cell(formats.percent(distinct, 0), f"{row['reads']:,} reads"),
            Cell(formats.percent(distance), "" if between is None else f"seeds {formats.percent(between)}"),
            *([Cell(more[0] if more else "", "; ".join(more[1:]))] if any(one["more"] for one in rows) else ()),
        ])  # fmt: skip
    return found


_PICKS: dict[str, Callable[[Json], float | None]] = {
    "gap": lambda row: row["gap_to_best"][1],
    "target": lambda row: row["time_to_target"],
    "solution": lambda row: row["time_to_solution"],
}


def _more(name: str, value: float) -> str:
    return formats.percent(value) if name in ("chain breaks", "feasible before repair") else formats.three(value)


def _anytime(rows: Sequence[Json], colours: Mapping[str, str]) -> list[Figure]:
    """Median gap against seconds, with the quartiles of the coloured solvers."""
    curves = {row["solver"]: (row["times"], row["anytime"]) for row in rows if _points(row, 1)}
    if not curves:
        return []
    points = [point for row in rows for point in _points(row, 1)]
    low = max(min((y for _, y in points if y > 100 * FLOOR), default=1.0) / 2, 100 * FLOOR)
    raised = [(x, max(y, low)) for x, y in points]
    area = axes.frame(raised, "seconds (log)", "gap to the best known, % (log)", log=(True, True))
    marks = [area.draw()]
    for row in reversed(rows):  # the best on top
        css = colours[row["solver"]]
        lines = [[(x, max(y, low)) for x, y in _points(row, q)] for q in range(3)]
        both = len(lines[2])
        if css != "other" and both > 1:
            marks.append(area.band(_stairs(lines[0][-both:]), _stairs(lines[2]), css))
        if len(lines[1]) == 1:  # found at the last moment
            marks.append(area.dots(lines[1], css))
        elif lines[1]:
            marks.append(area.steps(lines[1], css))
    key = tuple((colours[row["solver"]], row["solver"]) for row in rows[:COLOURED] if row["solver"] in curves)
    key += (("other", "others"),) if len(rows) > COLOURED else ()
    note = f"Medians over runs and their middle half; {formats.three(low)} % stands for all that is less."
    return [Figure("Anytime", axes.svg(marks, "median gap to the best known against seconds"), note, key)]


def _stairs(points: Sequence[axes.Point]) -> list[axes.Point]:
    """Corners of a line that keeps each value until the next."""
    corners = [points[0]]
    for (_, before), (x, y) in itertools.pairwise(points):
        corners += [(x, before), (x, y)]
    return corners


def _points(row: Json, quartile: int) -> list[axes.Point]:
    """Seconds and gaps in percent, from where there is one."""
    return [(x, 100.0 * y) for x, y in zip(row["times"], row["anytime"][quartile]) if y is not None]


def _reads(rows: Sequence[Json], colours: Mapping[str, str]) -> list[Figure]:
    """How the energies of all reads are spread, for the coloured solvers."""
    sides: dict[str, Any] = {}
    words: dict[str, str] = {}
    for row in rows[:COLOURED]:
        gaps = 100.0 * np.asarray([value for value in row["read_gaps"] if value is not None], float)
        if len(gaps) >= LEAST_READS:
            css = colours[row["solver"]]
            sides[css] = gaps
            words[css] = f"{row['solver']}: median {gap_text(float(np.median(gaps)) / 100)}"
    if not sides:
        return []
    end = max(float(np.percentile(values, 90)) for values in sides.values())
    span = (0.0, 1.02 * end if end > 0 else 1.0)
    title, x_title = "Energies of the reads", "gap to the best known, %"
    return [histograms(title, sides, words, span, 70, x_title, "energies of the reads", "reads drawn")]


def _or_inf(value: float | None) -> float:
    return float("inf") if value is None else value
