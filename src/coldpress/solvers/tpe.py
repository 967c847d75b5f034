"""Optuna's tree-structured Parzen estimator, a comparator: an option per unit, learned from plans (Bergstra 2011)."""

from __future__ import annotations

import numpy as np
import optuna

from coldpress.problem import Problem
from coldpress.solvers._answer import Answer
from coldpress.solvers._begin import begin, brought_inside
from coldpress.solvers._last import offer_smallest


def solve(problem: Problem, *, seed: int = 0, time_limit: float = 10.0, n_trials: int = 200) -> Answer:
    """Suggest plans, bring each inside the budget, and tell the sampler the plan that came of it.

    A suggestion costs time in proportion to the trials before it, so there are some hundreds in ten seconds.

    Args:
        problem: what to solve.
        seed: same seed, same plan, as long as the trials end before the time does.
        time_limit: seconds.
        n_trials: plans.

    Raises:
        BudgetError: no plan inside the budget was found.
    """
    progress, arrays = begin(problem, time_limit)
    choices = {
        str(u): optuna.distributions.CategoricalDistribution(tuple(range(size))) for u, size in enumerate(problem.sizes)
    }
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a new study is no news
    try:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    finally:
        optuna.logging.set_verbosity(verbosity)
    for number in range(n_trials):
        if number and progress.left == 0.0:
            break
        trial = study.ask(choices)
        choice = np.array([trial.params[str(u)] for u in range(len(problem.sizes))], dtype=np.int64)
        if not brought_inside(problem, arrays, choice):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            continue
        progress.evaluated += 1
        progress.offer(choice)
        # What was suggested is not what was brought inside: the latter's energy belongs to the latter's options.
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        study.add_trial(
            optuna.create_trial(
                params={str(u): int(o) for u, o in enumerate(choice)},
                distributions=choices,
                value=problem.energy_of(choice),
            )
        )
    if progress.choice is None:
        offer_smallest(progress)
    return progress.answer("tpe")
