"""Anneal, then prove: the default."""

from __future__ import annotations

from coldpress.problem import Problem
from coldpress.solvers import anneal, exact
from coldpress.solvers._answer import Answer, Progress, start
from coldpress.solvers._state import flatten
from coldpress.solvers.greedy import offer_smallest


def solve(problem: Problem, *, seed: int = 0, time_limit: float = 10.0, max_gap: float = 1e-3) -> Answer:
    """Anneal for at most a third of the time, then branch and bound until the gap is ``max_gap`` or the time is up.

    Raises:
        BudgetError: the budget cannot be met (proven), or no plan was found in time.
    """
    arrays = flatten(problem)
    anneal.warm_up()
    progress = start(problem, time_limit)
    quick = Progress(problem, time_limit / 3)
    anneal.search(quick, arrays, seed)
    if quick.choice is not None:
        progress.offer(quick.choice)
    else:
        offer_smallest(progress)
    exact.prove(progress, arrays, max_gap)
    return progress.answer("auto")
