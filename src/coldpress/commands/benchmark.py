"""`coldpress benchmark solvers`: who finds how good a plan how fast, on problems that are the same for all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dimod
from rich.markup import escape
from rich.table import Table

from coldpress.commands.terminal import err, out, progress_bars
from coldpress.contest import Cell, cells, contestant, instance_of, left_out, refusals, run, summary
from coldpress.errors import PlanError
from coldpress.executors import open_executor
from coldpress.files import write_text
from coldpress.instances import FAMILIES, CardinalityProblem, Instance, family
from coldpress.proof import reproduce_command, versions
from coldpress.report import contest as page
from coldpress.report import formats
from coldpress.runtime.devices import device

CELLS, RESULTS, PAGE = "cells.jsonl", "results.json", "benchmark.html"


def solvers(
    families: Sequence[str] | None,
    names: Sequence[str] | None,
    settings: Mapping[str, Any],
    executor: str,
    processes: int,
    folder: Path,
) -> None:
    """Run the contest, or what is missing of it, write the results and the page, and print a table.

    Args:
        families: names in `coldpress.instances.FAMILIES`; None takes all.
        names: of contestants; None takes all that can take an instance.
        settings: ``seeds``, ``seconds``, ``instances``, ``within``.
        executor, processes: see `coldpress.executors.open_executor`.
        folder: of cells.jsonl, results.json and benchmark.html.

    Raises:
        PlanError: an unknown name, or a number that makes no sense.
        TaskError: the executor cannot be used.
    """
    if not 0 <= settings["within"] < 1:
        raise PlanError(f"within is {settings['within']:g}; give 0 (the best known itself) to 1, 0.001 for 0.1 %")
    chosen = [family(name).name for name in families or FAMILIES]
    todo = cells(chosen, names, settings["instances"], settings["seeds"], settings["seconds"])
    folder.mkdir(parents=True, exist_ok=True)
    hours = len(todo) * settings["seconds"] / 3600
    err.print(f"{len(todo):,} runs, {formats.three(hours)} hours of solving in all, shared by the processes")
    with open_executor(executor, processes) as pool, progress_bars() as tell:
        found = run(todo, folder / CELLS, pool, lambda done, total: tell("runs", done, total))
    results = gathered(todo, found, settings)
    results["refused"] = left_out(chosen, names) | results["refused"]
    write_text(folder / RESULTS, json.dumps(results, indent=1) + "\n")
    page.render(results, folder / PAGE)
    for name in chosen:
        if name in results["families"]:
            out.print(table(name, [row for row in results["rows"] if row["family"] == name]))
        for who, why in page.by_reason(name, results["refused"]):
            out.print(f"[dim]{name} without {escape(who)}: {escape(why)}[/dim]", highlight=False)
    out.print(f"Wrote {folder}: {PAGE}, {RESULTS}, {CELLS}", highlight=False, soft_wrap=True)


def gathered(todo: Sequence[Cell], found: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of results.json: what was run on what, and a row for each family and solver."""
    bounds: dict[tuple[str, int], float] = {}
    shown: dict[str, dict[str, Any]] = {}
    for name, number in dict.fromkeys((cell.family, cell.instance) for cell in todo):
        instance = instance_of(name, number)
        if isinstance(instance, CardinalityProblem):
            bounds[name, number] = instance.lower_bound()
        titles = {cell.solver: contestant(cell.solver).title for cell in todo if cell.family == name}
        shown.setdefault(name, {"title": family(name).title, "facts": described(instance), "solvers": titles})
    threads = {str(one["threads"]) for one in found if "threads" in one}
    warnings = [] if threads <= {"1"} else [
        f"OMP_NUM_THREADS was {', '.join(sorted(threads))} in these runs: numerical libraries may have taken more than "
        "one thread. Use --executor processes, or set it to 1 where the workers start."
    ]  # fmt: skip
    return {
        "command": reproduce_command(),
        "versions": versions(),
        "machine": device(1).summary(),
        "settings": dict(settings),
        "warnings": warnings,
        "families": shown,
        "rows": summary(found, bounds, settings["within"]),
        "refused": refusals(found),
    }


def described(instance: Instance) -> str:
    """Sizes of an instance, in a sentence."""
    if isinstance(instance, CardinalityProblem):
        return f"{len(instance.diagonal):,} variables, {instance.cardinality:,} of them 1."
    if isinstance(instance, dimod.BinaryQuadraticModel):
        return f"{len(instance.variables):,} variables, {len(instance.quadratic):,} couplings, no constraint."
    convex = "convex" if instance.energy.is_convex else "indefinite"
    limits = ", ".join(instance.limits) or "nothing"
    return f"{len(instance.sizes):,} units, {sum(instance.sizes):,} options, {convex} energy, limits on {limits}."


def table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """One family for the terminal, best solver first."""
    made = Table(title=name, title_style="dim")
    for i, head in enumerate(
        ("solver", "gap to best", "gap to bound", "success", "to target", "plans evaluated", "99 %")
    ):
        made.add_column(head, justify="right" if i else "left")
    for row in page.ordered(rows):
        bound = row["gap_to_bound"]
        made.add_row(
            row["solver"],
            page.gap_text(row["gap_to_best"][1]),
            page.gap_text(bound[1]) if bound else formats.DASH,
            f"{row['successes']} of {row['runs']}",
            page.seconds_text(row["time_to_target"]),
            page.evaluations_text(row),
            page.seconds_text(row["time_to_solution"]),
        )
    return made
