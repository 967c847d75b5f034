"""Harms of all codes are met as nearly as a quadratic polynomial can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldpress.energy.bit_codes import fitted_changes, fitted_harm, lost_bits
from coldpress.filters import FilterSpace


def values(space: FilterSpace, matrix: np.ndarray) -> np.ndarray:
    return np.array([code @ matrix @ code for code in space.codes.astype(float)])


@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(1e-3, 1.0), min_size=3, max_size=3))
def test_two_steps_meet_every_harm(growth: list[float]) -> None:
    space = FilterSpace((), (), 5, 2)
    harms = np.concatenate([[0.25], 0.25 + np.cumsum(growth)])
    np.testing.assert_allclose(
        values(space, fitted_harm(space, harms)), (harms - harms[0])[lost_bits(space)], rtol=0.02
    )


def test_three_steps_miss_fourfold_growth_by_the_least_ratio() -> None:
    space = FilterSpace((), (), 8, 2)
    harms = 4.0 ** np.arange(7)
    lost = lost_bits(space)[1:]
    ratios = values(space, fitted_harm(space, harms))[1:] / (harms - 1.0)[lost]
    worst = float(np.abs(np.log(ratios)).max())
    # the code of all steps is the sum of the pairs' less the steps': no better than this
    top, near = harms[6] - 1, harms[5] + harms[4] + harms[3] - 3
    rest = harms[3] + harms[2] + harms[1] - 3
    assert np.exp(2 * worst) == pytest.approx((top + np.exp(0) * rest) / near, rel=0.06)
    by_bits = [values(space, fitted_harm(space, harms))[1:][lost == n].mean() for n in range(1, 7)]
    assert np.all(np.diff(by_bits) > 0)


def test_harms_that_are_all_alike_cost_nothing() -> None:
    space = FilterSpace((), (), 8, 2)
    assert not fitted_harm(space, np.full(7, 3.0)).any()


def test_changes_in_proportion_to_the_bits_are_met() -> None:
    space = FilterSpace((), (), 8, 2)
    direction = np.array([1.0, -2.0])
    found = fitted_changes(space, np.arange(7.0)[:, None] * direction)
    np.testing.assert_allclose(found, np.array(space.steps)[:, None] * direction, atol=1e-9)
    assert not fitted_changes(space, np.zeros((7, 2))).any()
