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


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([(8, 2), (8, 3), (6, 2), (5, 2), (3, 2)]), st.floats(2.0, 9.0), st.floats(0.0, 5.0))
def test_every_number_of_bits_costs_its_harm(bits: tuple[int, int], growth: float, first: float) -> None:
    space = FilterSpace((), (), *bits)
    harms = first + growth ** np.arange(bits[0] - bits[1] + 1)
    found, wanted = values(space, fitted_harm(space, harms)), (harms - harms[0])[lost_bits(space)]
    np.testing.assert_allclose(found[space.plain], wanted[space.plain], rtol=0.02)
    assert (found >= 0.98 * wanted).all()  # no other code is a cheaper way to the same bits


def test_harms_that_no_polynomial_tells_are_missed_by_one_ratio_either_way() -> None:
    space = FilterSpace((), (), 8, 2)
    harms = np.array([0.0, 0.01, 0.02, 0.1, 0.9, 0.95, 1.0])
    # the code of steps 1 and 2 costs f6 - f5 - f4 + f3 + f2 + f1, here below 0, and must cost f3 / ratio
    found = values(space, fitted_harm(space, harms))[1:] / harms[lost_bits(space)[1:]]
    ratio = 1.0 / found.min()
    assert ratio == pytest.approx((1.95 / 1.13) ** 0.5, rel=0.03)
    assert found[space.plain[1:]].max() <= ratio * 1.02


def test_harms_that_are_all_alike_cost_nothing() -> None:
    space = FilterSpace((), (), 8, 2)
    assert not fitted_harm(space, np.full(7, 3.0)).any()


def test_changes_in_proportion_to_the_bits_are_met() -> None:
    space = FilterSpace((), (), 8, 2)
    direction = np.array([1.0, -2.0])
    found = fitted_changes(space, np.arange(7.0)[:, None] * direction)
    np.testing.assert_allclose(found, np.array(space.steps)[:, None] * direction, atol=1e-9)
    assert not fitted_changes(space, np.zeros((7, 2))).any()
