"""Step by step: the change with the least energy per cost removed, until the budget is met, then descent."""

from __future__ import annotations

from coldpress.elimination import minimise_sum
from coldpress.problem import Problem
from coldpress.solvers._answer import Answer, Progress, start
from coldpress.solvers._moves import polish
from coldpress.solvers._state import allowed_start, flatten, merge_blocks
from coldpress.solvers.anneal import warm_up


def solve(problem: Problem, *, seed: int = 0, time_limit: float = 10.0) -> Answer:
    """Start from everything kept and take the cheapest steps; deterministic, so ``seed`` changes nothing.

    Raises:
        BudgetError: no plan inside the budget was found.
    """
    del seed
    arrays = flatten(problem)
    warm_up()
    progress = start(problem, time_limit)
    choice, inside = polish(arrays, allowed_start(problem, merge_blocks(problem)[0]))
    if inside:
        progress.offer(choice)
    else:
        offer_smallest(progress)
    return progress.answer("greedy")


def offer_smallest(progress: Progress) -> None:
    """Offer the plan of least total cost, in shares of the limits, improved by descent: the last resort."""
    problem = progress.problem
    blocks = merge_blocks(problem)[0]
    choice = minimise_sum(problem.sizes, [(block.units, block.table.sum(axis=0)) for block in blocks])[1]
    if problem.feasible(choice):
        progress.offer(choice)
        progress.offer(polish(flatten(problem), choice)[0])
