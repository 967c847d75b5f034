"""Relax, round and descend: a bound and a good plan in the time of a few dozen eliminations."""

from __future__ import annotations

from coldpress.problem import Problem
from coldpress.solvers._answer import Answer
from coldpress.solvers._begin import begin_descended
from coldpress.solvers._root import RootSearch
from coldpress.solvers._state import allowed_start, merge_blocks


def solve(problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> Answer:
    """Bound by mixtures of plans, round every mixture met; deterministic, so ``seed`` changes nothing.

    Raises:
        BudgetError: no plan inside the budget was found.
    """
    del seed
    progress, arrays = begin_descended(problem, time_limit)
    begin = progress.choice
    if begin is None:
        begin = allowed_start(problem, merge_blocks(problem)[0])
    search = RootSearch(progress, arrays, begin, max_gap=1e-6)
    for stage in search.stages:
        if not search.done:
            stage()
    return progress.answer("relaxation")
