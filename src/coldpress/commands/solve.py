"""`coldpress solve`: any problem in a file, ours or another's, by any solver; the answer is checked and written."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from coldpress.commands.subject import check_new
from coldpress.commands.terminal import out
from coldpress.errors import PlanError
from coldpress.files import write_text
from coldpress.interchange import Read, read
from coldpress.report import formats
from coldpress.samplers import named
from coldpress.samplers.kinds import is_exact
from coldpress.solvers import SOLVERS, Answer, check_solver, check_time_limit, sampler_called
from coldpress.solvers import solve as solve_problem
from coldpress.solvers.qubo import sample, told_of
from coldpress.solvers.qubo import solve as solve_by_sampler


def run(
    path: Path,
    solver: str,
    time_limit: float,
    seed: int,
    answer_path: Path | None,
    overwrite: bool,
    num_reads: int | None = None,
    max_variables: int | None = None,
    vartype: str | None = None,
) -> None:
    """Solve the problem in ``path`` and show the answer; with ``answer_path`` write it as JSON.

    A sampler is given a BQM as it stands in the file, anything else as a QUBO with penalties (or a CQM, if it takes
    one). What hardware reads is kept in the folder ``answer_path`` with ``.reads`` for ``.json``.

    Raises:
        PlanError: the file cannot be read, the time is not above 0, or the answer does not keep what the file asks.
        BudgetError: no answer is inside the limits.
        SamplerError, HardwareError: see `coldpress.solvers.qubo.solve`.
    """
    check_time_limit(time_limit)
    for name, value in (("num_reads", num_reads), ("max_variables", max_variables)):
        if value is not None and (value < 1 or solver in SOLVERS):
            raise PlanError(f"{name} is {value}; give 1 or more, and a sampler: {', '.join(named.NAMES)}")
    if answer_path is not None:
        check_new(answer_path, overwrite)
    check_solver(solver)
    given = read(path, vartype)
    if solver in SOLVERS:
        facts = checked(given, solve_problem(given.problem, solver, seed=seed, time_limit=time_limit))
    else:
        sampler = sampler_called(solver, None if answer_path is None else answer_path.with_suffix(".reads"))
        settings: dict[str, Any] = {
            "name": solver,
            "seed": seed,
            "time_limit": time_limit,
            "num_reads": num_reads,
            "max_variables": max_variables,
        }
        if given.model is not None and hasattr(sampler, "sample"):
            facts = sampled(given, sampler, **settings)
        else:
            facts = checked(given, solve_by_sampler(given.problem, sampler=sampler, **settings))
    if answer_path is not None:
        write_text(answer_path, json.dumps(facts, indent=1) + "\n")
    out.print(_table(path, facts))
    if answer_path is not None:
        out.print(f"Wrote {answer_path}", soft_wrap=True, highlight=False)


def sampled(given: Read, sampler: Any, *, name: str, **settings: Any) -> dict[str, Any]:
    """The best sample of a BQM as JSON-ready facts; its energy is the model's own.

    Args:
        given: a BQM out of a file.
        sampler: of BQMs.
        name: what it was asked for by.
        **settings: of `coldpress.solvers.qubo.sample`.
    """
    begin = time.perf_counter()
    found, kind = sample(given.model, sampler, name=name, **settings)
    best = found.first
    energy, seconds = float(best.energy), time.perf_counter() - begin
    bound = energy if is_exact(sampler) and "blocks" not in found.info else None  # blocks alone prove nothing
    return {
        "kind": given.kind,
        "variables": given.size,
        "solver": f"{name} ({kind})",
        "energy": energy,
        "lower_bound": bound,
        "gap": None if bound is None else 0.0,
        "seconds": seconds,
        "trace": _trace(found.info, energy, bound, seconds),
        "sampler": {"sampler": kind, "reads": int(found.record.num_occurrences.sum()), **told_of(found)},
        "sample": [[str(variable), int(value)] for variable, value in best.sample.items()],
    }


def _trace(info: Mapping[str, Any], energy: float, bound: float | None, seconds: float) -> list[list[float | None]]:
    """[seconds, energy, bound] of every improvement that was told, and of the end."""
    trace: list[list[float | None]] = []
    least = math.inf
    for times, energies in zip(info.get("times", ()), info.get("traces", ())):
        for moment, value in zip(times, energies):
            if value < least:
                least = float(value)
                trace.append([float(moment), least, None])
    if not trace or energy < least or bound is not None:
        trace.append([seconds, energy, bound])
    return trace


def checked(given: Read, answer: Answer) -> dict[str, Any]:
    """The answer as JSON-ready facts, its energy and limits computed again from what the file holds.

    Raises:
        PlanError: they are not what the solver says.
    """
    facts: dict[str, Any] = {
        "kind": given.kind,
        "variables": given.size,
        "solver": answer.solver,
        "energy": answer.energy,
        "lower_bound": answer.lower_bound,
        "gap": answer.gap,
        "seconds": answer.seconds,
        "trace": [list(moment) for moment in answer.trace],
        "sampler": dict(answer.facts),
    }
    if given.sample is None or given.energy is None or given.feasible is None:
        return facts | {"choices": dict(answer.plan.choices), "costs": given.problem.costs_of(answer.choice)}
    sample = given.sample(answer.choice)
    energy = given.energy(sample)
    if abs(energy - answer.energy) > 1e-6 * (1.0 + abs(energy)) or not given.feasible(sample):
        raise PlanError(f"{answer.solver} says {answer.energy:g}, the file's model {energy:g}: the answer is refused")
    return facts | {"energy": energy, "sample": [[str(name), value] for name, value in sample.items()]}


def _table(path: Path, facts: dict[str, Any]) -> Table:
    table = Table(show_header=False, title=str(path), title_style="dim")
    table.add_row("problem", f"{facts['kind']}, {facts['variables']:,} units or free variables")
    table.add_row("solver", f"{facts['solver']}, {formats.three(facts['seconds'])} s")
    table.add_row("energy", f"{facts['energy']:.9g}")
    known = facts["lower_bound"] is not None
    table.add_row("lower bound", f"{facts['lower_bound']:.9g}" if known else "none is proven")
    if known:
        table.add_row("gap", formats.percent(facts["gap"], 3))
    for name, value in facts["sampler"].items():
        shown = formats.three(value) if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), escape(shown))
    return table
