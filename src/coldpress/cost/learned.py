"""A predicted cost, corrected by plans that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from coldpress.problem import Cost, Factor

EACH, ALL, NOISE = 0.15, 0.15, 0.02
"""Standard deviations: of the error of one factor, of the error that all share, and of a measurement."""
LEAST = 0.25


def learned(cost: Cost, plans: Sequence[Sequence[int]], measured: Sequence[float]) -> Cost:
    """The cost with every factor scaled to what measured plans say of it.

    Whoever minimises by predictions finds the plans whose times are predicted too low. To raise all predictions for
    that would make plans dear which were predicted well. So each factor (a layer, or where int8 meets float) has an
    error of its own, and all have one in common; both are normal, and their expectation given the measurements is
    taken (Bayesian linear regression).

    Args:
        cost: as predicted.
        plans: option indices of measured plans, each ``(units,)`` and allowed by the cost.
        measured: what they really cost.
    """
    known = [(plan, value) for plan, value in zip(plans, measured) if np.isfinite(cost.value(plan))]
    if not known:
        return cost
    rows = np.array([_parts(cost, np.asarray(plan)) for plan, _ in known])
    values = np.array([value for _, value in known])
    predicted = rows.sum(axis=1)
    covariance = EACH**2 * rows @ rows.T + ALL**2 * np.outer(predicted, predicted) + np.diag((NOISE * values) ** 2)
    weights = np.linalg.solve(covariance, values - predicted)
    scales = np.maximum(1.0 + EACH**2 * rows.T @ weights + ALL**2 * (predicted @ weights), LEAST)
    factors = tuple(Factor(factor.units, factor.table * scale) for factor, scale in zip(cost.factors, scales))
    return replace(cost, factors=factors, constant=cost.constant * float(scales[-1]))


def _parts(cost: Cost, plan: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[float]:
    """What each factor adds to a plan's cost, and the constant."""
    return [*(float(factor.table[tuple(plan[list(factor.units)])]) for factor in cost.factors), cost.constant]
