"""Samplers on layer-choice problems, through the penalty form: what they find is read as options and brought inside."""

from __future__ import annotations

import functools
from typing import Any

import dimod
import numpy as np
from numpy.typing import NDArray

from coldpress.contest import _samplers
from coldpress.contest._given import best_rows
from coldpress.contest.attempt import Attempt
from coldpress.problem import Problem
from coldpress.qubo import variable
from coldpress.solvers._begin import brought_inside
from coldpress.solvers._state import Ints, flatten

MOST_ROWS = 16
"""Of a call's reads so many are repaired, the best."""


def play(name: str, problem: Problem, seed: int, limit: float) -> Attempt:
    """Sample the penalty form until the time is up; it is built and read before the clock starts.

    Raises:
        BudgetError: the form would take too many variables.
    """
    model, arrays = _form(problem), flatten(problem)
    given = _samplers.prepared(name, model)
    attempt = Attempt(limit)
    seen = kept = 0

    def take(found: dimod.SampleSet, began: float) -> None:
        del began  # improvements of the form are none of plans
        nonlocal seen, kept
        bits, _, counts = best_rows(model, found)
        choices, times = [], []
        for row, count in zip(bits[:MOST_ROWS], counts):
            choice, clean = decode(problem, row)
            seen += 1
            kept += clean and problem.feasible(choice)
            if brought_inside(problem, arrays, choice):
                choices.append(choice)
                times.append(int(count))
        if choices:
            attempt.offer(choices, [problem.energy_of(choice) for choice in choices], times)

    _samplers.sample(name, given, attempt, seed, take, _samplers.WAYS[name].first)
    attempt.more |= {"feasible before repair": kept / max(seen, 1), "variables": float(len(model.variables))}
    return attempt


def decode(problem: Problem, bits: NDArray[Any]) -> tuple[Ints, bool]:
    """Options that bits of the penalty form mean, and whether each unit had exactly one.

    Of several the first is taken, the gentlest; where there is none the unit is left as it is. The bits of options come
    first in the form, unit after unit.
    """
    choice: Ints = np.zeros(len(problem.sizes), dtype=np.int64)
    clean = True
    for u, (a, b) in enumerate(zip(problem.offsets, problem.offsets[1:])):
        on = np.flatnonzero(bits[a:b])
        clean = clean and len(on) == 1
        choice[u] = on[0] if len(on) else 0
    return choice, clean


@functools.lru_cache(maxsize=2)
def _form(problem: Problem) -> dimod.BinaryQuadraticModel:
    """The penalty form, its options' variables first."""
    model = problem.to_bqm()
    first = [variable(problem, u, o) for u, size in enumerate(problem.sizes) for o in range(size)]
    assert list(model.variables)[: len(first)] == first
    return model
