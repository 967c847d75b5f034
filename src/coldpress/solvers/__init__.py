"""Solvers: a Problem in, a Plan with its energy and, where it can be proven, a lower bound out.

A new one is a file with ``solve(problem, *, seed, time_limit) -> Answer`` and a line in `SOLVERS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from coldpress.errors import ColdpressError
from coldpress.problem import Problem
from coldpress.solvers import anneal, auto, exact, genetic, greedy, milp, random, reinforce, relaxation, tpe
from coldpress.solvers._answer import Answer, relative_gap

__all__ = ["SOLVERS", "Answer", "relative_gap", "solve"]

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
    "tpe": tpe.solve,
}


def solve(problem: Problem, solver: str = "auto", *, seed: int = 0, time_limit: float = 10.0) -> Answer:
    """Solve ``problem``.

    Args:
        problem: energy, costs and budget.
        solver: a name in `SOLVERS`; "auto" anneals, then proves how good that is.
        seed: same seed, same plan, as long as the solver ends before the time does.
        time_limit: seconds.

    Returns:
        The best plan found, with a lower bound and the gap where the solver proves one.

    Raises:
        BudgetError: no plan meets the budget; the message says the smallest cost that can be met.
        ColdpressError: the solver's name is unknown.
    """
    if solver not in SOLVERS:
        near = difflib.get_close_matches(solver, list(SOLVERS), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ColdpressError(f"unknown solver {solver!r}; use one of {', '.join(SOLVERS)}{hint}")
    return SOLVERS[solver](problem, seed=seed, time_limit=time_limit)
