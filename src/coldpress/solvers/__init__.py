"""Solvers: a Problem in, a Plan with its energy and, where it can be proven, a lower bound out.

A new one is a file with ``solve(problem, *, seed, time_limit) -> Answer`` and a line in `SOLVERS`. Samplers of
`coldpress.samplers.named`, and any that is given as an object, solve through `qubo`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from coldpress.cost.devices import cache_folder
from coldpress.errors import ColdpressError
from coldpress.names import meant
from coldpress.problem import Problem
from coldpress.samplers import named
from coldpress.solvers import (
    anneal,
    auto,
    exact,
    genetic,
    greedy,
    milp,
    qubo,
    random,
    reinforce,
    relaxation,
    separable,
    tpe,
)
from coldpress.solvers._answer import Answer, check_time_limit, relative_gap

__all__ = [
    "SOLVERS",
    "WITHOUT_END",
    "Answer",
    "check_solver",
    "check_time_limit",
    "relative_gap",
    "sampler_called",
    "solve",
]

SOLVERS: Mapping[str, Callable[..., Answer]] = {
    "anneal": anneal.solve,
    "auto": auto.solve,
    "exact": exact.solve,
    "genetic": genetic.solve,
    "greedy": greedy.solve,
    "milp": milp.solve,
    "random": random.solve,
    "reinforce": reinforce.solve,
    "relaxation": relaxation.solve,
    "separable": separable.solve,
    "tpe": tpe.solve,
}
WITHOUT_END: dict[str, dict[str, Any]] = {
    "anneal": {"num_reads": 1_000_000},
    "genetic": {"num_generations": 1_000_000_000},
    "random": {"num_reads": 1_000_000_000},
    "reinforce": {"num_updates": 1_000_000_000},
    "tpe": {"n_trials": 1_000_000_000},
}
"""Arguments by which a solver takes all of its time; the others end when they are through."""


def solve(
    problem: Problem, solver: str | Any = "auto", *, seed: int = 0, time_limit: float = 10.0, **options: Any
) -> Answer:
    """Solve ``problem``.

    Args:
        problem: energy, costs and budget.
        solver: a name in `SOLVERS` ("auto" anneals, then proves how good that is) or of a sampler
            (`coldpress.samplers.named`); or any `dimod.Sampler`, or object with ``sample_cqm``, as it is.
        seed: same seed, same plan, as long as the solver ends before the time does.
        time_limit: seconds.
        **options: of the solver's own function, `qubo.solve` for samplers: ``num_reads``, say.

    Returns:
        The best plan found, with a lower bound and the gap where the solver proves one.

    Raises:
        BudgetError: no plan meets the budget (``proved``; the message says the smallest cost that can be met where one
            limit is to blame), or none was found in time.
        PlanError: the time limit is not above 0.
        ColdpressError: the solver's name is unknown.
        SamplerError, HardwareError: see `qubo.solve`.
    """
    if not isinstance(solver, str):
        return qubo.solve(problem, sampler=solver, seed=seed, time_limit=time_limit, **options)
    check_solver(solver)
    if solver in SOLVERS:
        return SOLVERS[solver](problem, seed=seed, time_limit=time_limit, **options)
    sampler = sampler_called(solver)
    return qubo.solve(problem, sampler=sampler, name=solver, seed=seed, time_limit=time_limit, **options)


def check_solver(name: str) -> None:
    """Refuse a name that `solve` does not know, or that lacks what it needs; no network is asked.

    Raises:
        ColdpressError: the name is unknown; or a sampler of that name cannot be made (see `named.check`).
    """
    if name in SOLVERS:
        return
    if named.is_name(name):
        named.check(name)
        return
    known = [*SOLVERS, *named.NAMES]
    raise ColdpressError(f"unknown solver {name!r}; use one of {', '.join(known)}{meant(name, known)}")


def sampler_called(name: str, folder: Path | None = None) -> Any:
    """The sampler of this name; what is paid for keeps its reads in ``folder``, by default in the cache's ``reads``."""
    kept = cache_folder() / "reads" if folder is None and name.partition(":")[0] in named.FAR else folder
    return named.make(name, kept)
