"""The last resort where no search came upon a plan within the limits: the smallest plan there is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coldpress.elimination import minimise_sum
from coldpress.solvers._answer import Progress
from coldpress.solvers._moves import polish
from coldpress.solvers._state import flatten, merge_blocks

Floats = NDArray[np.float64]

WEIGHINGS = 60


def offer_smallest(progress: Progress) -> None:
    """Offer a plan of least total cost, in weighted shares of the limits, improved by descent: the last resort.

    The shares count alike at first; then those of limits that the last plan broke count more (multiplicative weights).
    """
    problem = progress.problem
    blocks = merge_blocks(problem)[0]
    limits = list(problem.limits)
    weights = np.ones(len(limits))
    for _ in range(WEIGHINGS if limits else 1):
        tables = [(block.units, _weighed(block.table, weights)) for block in blocks]
        choice = minimise_sum(problem.sizes, tables)[1]
        if problem.feasible(choice):
            progress.offer(choice)
            progress.offer(polish(flatten(problem), choice)[0])
            return
        costs = problem.costs_of(choice)
        shares = np.array([costs[name] / problem.limits[name] for name in limits])
        if not np.isfinite(shares).all():
            return
        weights = weights * np.exp(np.clip(shares - 1.0, -1.0, 1.0))
        weights /= weights.sum()


def _weighed(table: Floats, weights: Floats) -> Floats:
    """A block's shares of the limits, (limits, options, ...), added up with weights; +inf stays what it is."""
    parts = table.reshape(len(table), -1)
    finite = np.where(np.isfinite(parts), parts, 0.0)
    forbidden = np.isinf(parts).any(axis=0)
    return np.where(forbidden, np.inf, weights @ finite).reshape(table.shape[1:])
