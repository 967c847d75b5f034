"""Step by step: the change with the least energy per cost removed, until the budget is met, then descent."""

from __future__ import annotations

from coldpress.problem import Problem
from coldpress.solvers._answer import Answer
from coldpress.solvers._begin import begin_descended


def solve(problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> Answer:
    """Start from everything kept and take the cheapest steps; deterministic, so ``seed`` changes nothing.

    Raises:
        BudgetError: no plan inside the budget was found.
    """
    del seed
    progress, _ = begin_descended(problem, time_limit)
    return progress.answer("greedy")
