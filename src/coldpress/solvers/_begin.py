"""How solvers come by their first plan: by annealing, or by descent."""

from __future__ import annotations

from coldpress.problem import Problem
from coldpress.solvers import anneal
from coldpress.solvers._answer import Progress, start
from coldpress.solvers._last import offer_smallest
from coldpress.solvers._moves import polish, repair
from coldpress.solvers._state import Arrays, Ints, allowed_start, flatten, merge_blocks


def begin(problem: Problem, time_limit: float) -> tuple[Progress, Arrays]:
    """Start a run, everything compiled. Raises BudgetError on a limit that nothing meets."""
    arrays = flatten(problem)
    anneal.warm_up()
    return start(problem, time_limit), arrays


def brought_inside(problem: Problem, arrays: Arrays, choice: Ints) -> bool:
    """Whether a choice is allowed and inside the budget after single moves, which are made in place.

    Units whose options are forbidden together are left as they are first: of random choices hardly any would be allowed
    where many layers have such options.
    """
    return _allow(problem, choice) and bool(repair(arrays, choice))


def _allow(problem: Problem, choice: Ints) -> bool:
    """Let units keep until nothing in the choice is forbidden; whether that is so."""
    while barred := [unit for cost in problem.costs.values() for f in cost.forbidden(choice) for unit in f.units]:
        if not choice[barred].any():
            return False
        choice[barred] = 0
    return True


def begin_annealed(problem: Problem, seed: int, time_limit: float, share: float) -> tuple[Progress, Arrays]:
    """Start a run and anneal for at most ``share`` of its time. Raises BudgetError on a limit that nothing meets."""
    progress, arrays = begin(problem, time_limit)
    quick = Progress(problem, share * time_limit)
    anneal.search(quick, arrays, seed)
    if quick.choice is not None:
        progress.offer(quick.choice)
    else:
        offer_smallest(progress)
    return progress, arrays


def begin_descended(problem: Problem, time_limit: float) -> tuple[Progress, Arrays]:
    """Start a run and descend from everything kept. Raises BudgetError on a limit that nothing meets."""
    progress, arrays = begin(problem, time_limit)
    choice, inside = polish(arrays, allowed_start(problem, merge_blocks(problem)[0]))
    if inside:
        progress.offer(choice)
    else:
        offer_smallest(progress)
    return progress, arrays
