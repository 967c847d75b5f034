"""`coldpress solve`: any problem in a file, ours or another's, by any solver; the answer is checked and written."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.table import Table

from coldpress.commands.subject import check_new
from coldpress.commands.terminal import out
from coldpress.errors import PlanError
from coldpress.files import write_text
from coldpress.interchange import Read, read
from coldpress.report import formats
from coldpress.solvers import SOLVERS, Answer
from coldpress.solvers import solve as solve_problem

SAMPLERS = {
    "tabu": "OneFlipTabuSampler",
    "low-rank": "LowRankAnnealingSampler",
    "bifurcation": "SimulatedBifurcationSampler",
    "qaoa": "QAOASampler",
    "exhaustive": "ExhaustiveSampler",
}
"""Of `coldpress.samplers`, for models without constraints."""


def run(path: Path, solver: str, time_limit: float, seed: int, answer_path: Path | None, overwrite: bool) -> None:
    """Solve the problem in ``path`` and show the answer; with ``answer_path`` write it as JSON.

    Raises:
        PlanError: the file cannot be read, the time is not above 0, or the answer does not keep what the file asks.
        BudgetError: no answer is inside the limits.
    """
    if time_limit <= 0:
        raise PlanError(f"time_limit is {time_limit:g}; give it some seconds")
    if answer_path is not None:
        check_new(answer_path, overwrite)
    given = read(path)
    if solver in SAMPLERS:
        facts = sampled(given, solver, seed, time_limit)
    else:
        facts = checked(given, solve_problem(given.problem, solver, seed=seed, time_limit=time_limit))
    if answer_path is not None:
        write_text(answer_path, json.dumps(facts, indent=1) + "\n")
    out.print(_table(path, facts))
    if answer_path is not None:
        out.print(f"Wrote {answer_path}", soft_wrap=True, highlight=False)


def sampled(given: Read, name: str, seed: int, time_limit: float) -> dict[str, Any]:
    """The best sample of a BQM by one of our samplers, as JSON-ready facts; its energy is the model's own.

    Raises:
        PlanError: the file holds constraints, which samplers know nothing of.
    """
    if given.model is None:
        raise PlanError(f"{name} samples models without constraints; for this file take one of {', '.join(SOLVERS)}")
    sampler = getattr(import_module("coldpress.samplers"), SAMPLERS[name])()
    limited = {"time_limit": time_limit} if "time_limit" in sampler.parameters else {}
    found = sampler.sample(given.model, seed=seed, **limited)
    best = found.first
    return {
        "kind": given.kind,
        "variables": len(given.problem.sizes),
        "solver": f"{name} ({found.info['method']})",
        "energy": float(best.energy),
        "lower_bound": None,
        "gap": None,
        "seconds": float(found.info["seconds"]),
        "trace": [],
        "sample": [[str(variable), int(value)] for variable, value in best.sample.items()],
    }


def checked(given: Read, answer: Answer) -> dict[str, Any]:
    """The answer as JSON-ready facts, its energy and limits computed again from what the file holds.

    Raises:
        PlanError: they are not what the solver says.
    """
    facts: dict[str, Any] = {
        "kind": given.kind,
        "variables": len(given.problem.sizes),
        "solver": answer.solver,
        "energy": answer.energy,
        "lower_bound": answer.lower_bound,
        "gap": answer.gap,
        "seconds": answer.seconds,
        "trace": [list(moment) for moment in answer.trace],
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
    return table
