"""Anneal, then prove: the default."""

from __future__ import annotations

from coldpress.problem import Problem
from coldpress.solvers import exact
from coldpress.solvers._answer import Answer
from coldpress.solvers._begin import begin_annealed


def solve(problem: Problem, *, seed: int = 0, time_limit: float = 10.0, max_gap: float = 1e-3) -> Answer:
    """Anneal for at most a third of the time, then branch and bound until the gap is ``max_gap`` or the time is up.

    Raises:
        BudgetError: the budget cannot be met (proven), or no plan was found in time.
    """
    progress, arrays = begin_annealed(problem, seed, time_limit, share=1 / 3)
    exact.prove(progress, arrays, max_gap)
    return progress.answer("auto")
