"""Solvers of layer-choice problems as contestants, also on models without constraints, read as such problems."""

from __future__ import annotations

import functools

import dimod
import numpy as np

from coldpress.contest.attempt import Attempt
from coldpress.errors import BudgetError
from coldpress.interchange import of_bqm
from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.solvers import SOLVERS, WITHOUT_END

PROVING = ("auto", "exact", "milp", "relaxation")
WHY = "each is a unit of two options, which would take it too long"


def most_variables(name: str) -> int:
    """Of the largest model without constraints that a solver is given."""
    return 100 if name in PROVING or name == "tpe" else 500


def play_model(name: str, model: dimod.BinaryQuadraticModel, seed: int, limit: float) -> Attempt:
    """Solve a binary model read as a problem, a unit of two options a variable; it is read before the clock starts."""
    return play(name, of_bqm(model.change_vartype("BINARY", inplace=False)).problem, seed, limit)


def play(name: str, problem: Problem, seed: int, limit: float) -> Attempt:
    """Solve once. What a solver does before its own clock starts counts too, compiling does not."""
    _compiled(name)
    attempt = Attempt(limit)
    try:
        answer = SOLVERS[name](problem, seed=seed, time_limit=limit, **WITHOUT_END.get(name, {}))
    except BudgetError:  # nothing found in so little time
        return attempt
    before = max(attempt.seconds - answer.seconds, 0.0)
    for at, (seconds, energy, _) in enumerate(answer.trace):
        if seconds + before <= limit and energy < attempt.energy:
            attempt.trace.append((seconds + before, energy))
            attempt.evaluations += answer.evaluations[at : at + 1]
    if not attempt.trace and answer.seconds + before <= limit:
        attempt.trace.append((answer.seconds + before, answer.energy))
        attempt.evaluations += answer.evaluations[-1:]
    attempt.evaluations += answer.evaluations[-1:]
    attempt.bound = answer.lower_bound
    attempt.energies = [energy for _, energy in attempt.trace[-1:]]
    if attempt.energy <= answer.energy:  # else its last plan came too late, and earlier ones are not told
        attempt.best, attempt.states = answer.choice, [answer.choice]
    return attempt


@functools.cache
def _compiled(name: str) -> None:
    """Solve something tiny, so that what is compiled or loaded at first use is there."""
    rng = np.random.default_rng(0)
    G = rng.normal(size=(24, 6))
    sizes, left = [3] * 8, np.array([1.0, 0.5, 0.1])
    factors = [Factor((u, u + 1), np.outer(left, left)) for u in range(7)]
    problem = Problem.from_arrays(
        sizes, Energy(G @ G.T, np.zeros(24)), {"macs": Cost("macs", tuple(factors))}, {"macs": "50%"}
    )
    SOLVERS[name](problem, seed=0, time_limit=0.2)
