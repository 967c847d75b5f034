"""Relax, round and descend: a bound and a good plan in the time of a few dozen eliminations."""

from __future__ import annotations

from coldpress.problem import Problem
from coldpress.solvers._answer import Answer, start
from coldpress.solvers._moves import polish
from coldpress.solvers._root import bound_root
from coldpress.solvers._state import allowed_start, flatten, merge_blocks
from coldpress.solvers.anneal import warm_up
from coldpress.solvers.greedy import offer_smallest


def solve(problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> Answer:
    """Bound by mixtures of plans, round every mixture met; deterministic, so ``seed`` changes nothing.

    Raises:
        BudgetError: no plan inside the budget was found.
    """
    del seed
    arrays = flatten(problem)
    warm_up()
    progress = start(problem, time_limit)
    begin = allowed_start(problem, merge_blocks(problem)[0])
    polished, inside = polish(arrays, begin)
    if inside:
        progress.offer(polished)
    else:
        offer_smallest(progress)
    bound_root(progress, arrays, begin if progress.choice is None else progress.choice, max_gap=1e-6)
    return progress.answer("relaxation")
