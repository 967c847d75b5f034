"""The best of many random plans inside the budget: the baseline that every solver must beat."""

from __future__ import annotations

import numpy as np

from coldpress.problem import Problem
from coldpress.solvers._answer import Answer
from coldpress.solvers._begin import begin, brought_inside
from coldpress.solvers._last import offer_smallest


def solve(problem: Problem, *, seed: int = 0, time_limit: float = 10.0, num_reads: int = 200) -> Answer:
    """Draw ``num_reads`` random plans, bring each inside the budget by single moves, and keep the best.

    Raises:
        BudgetError: no plan inside the budget was found.
    """
    progress, arrays = begin(problem, time_limit)
    generator = np.random.default_rng(seed)
    sizes = np.array(problem.sizes)
    for read in range(num_reads):
        if read and progress.left == 0.0:
            break
        choice = generator.integers(sizes).astype(np.int64)
        if brought_inside(problem, arrays, choice):
            progress.evaluated += 1
            progress.offer(choice)
    if progress.choice is None:
        offer_smallest(progress)
    return progress.answer("random")
