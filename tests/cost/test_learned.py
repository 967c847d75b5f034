"""Measured plans correct predictions where they say something about them, and hardly elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldpress.cost.learned import ALL, learned
from coldpress.problem import Cost, Factor


def cost_of(seed: int, layers: int = 8, options: int = 4) -> Cost:
    draw = np.random.default_rng(seed)
    return Cost("latency", tuple(Factor((u,), draw.uniform(0.5, 1.5, options)) for u in range(layers)), 0.2)


def test_nothing_measured_nothing_learned() -> None:
    cost = cost_of(0)
    assert learned(cost, [], []) is cost


@given(st.integers(0, 50), st.floats(0.8, 1.25))
def test_a_measured_plan_is_then_predicted_as_measured(seed: int, ratio: float) -> None:
    cost, plan = cost_of(seed), [seed % 4] * 8
    corrected = learned(cost, [plan], [ratio * cost.value(plan)])
    assert corrected.value(plan) == pytest.approx(ratio * cost.value(plan), rel=0.05)


@given(st.integers(0, 50))
def test_errors_of_single_layers_are_found(seed: int) -> None:
    """With as many measurements as plans differ in, other plans are predicted better than before."""
    draw = np.random.default_rng(seed)
    cost = cost_of(seed)
    errors = np.exp(draw.normal(0.0, 0.15, 8))
    truth = Cost("latency", tuple(Factor(f.units, f.table * e) for f, e in zip(cost.factors, errors)), cost.constant)
    plans = draw.integers(0, 4, (60, 8))
    corrected = learned(cost, plans[:40].tolist(), [truth.value(plan) for plan in plans[:40]])

    def error(found: Cost) -> float:
        return float(np.mean([abs(found.value(p) / truth.value(p) - 1) for p in plans[40:]]))

    assert error(corrected) < 0.5 * error(cost) + 0.01


def test_a_part_that_a_plan_does_not_use_moves_with_the_common_error_alone() -> None:
    cost = Cost("latency", (Factor((0,), np.array([0.0, 1.0])), Factor((1,), np.array([0.0, 1.0]))), 0.0)
    corrected = learned(cost, [[1, 0]], [1.2])
    assert corrected.value([0, 1]) - 1.0 == pytest.approx(0.2 * ALL**2 / (2 * ALL**2), rel=0.1)


def test_a_forbidden_plan_that_was_measured_is_left_out() -> None:
    cost = Cost("latency", (Factor((0,), np.array([1.0, np.inf])),), 0.0)
    assert learned(cost, [[1]], [5.0]) is cost
