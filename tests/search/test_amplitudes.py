"""A q-dit stays a state: of unit length, inside its bound, turned toward its target and never past it."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, IntDistribution

from coldpress.search.amplitudes import QDit, bound, draw, floored, rotate

lengths = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=12).filter(lambda values: sum(values) > 0.1)
states = lengths.map(lambda values: tuple(v / math.sqrt(sum(w * w for w in values)) for v in values))
epsilons = st.floats(0.0, 0.5)


@given(states, st.integers(0, 11), st.floats(0.0, math.pi), epsilons)
def test_a_turned_and_bounded_state_is_a_state_within_the_bound(state, target, angle, epsilon):
    target %= len(state)
    turned = rotate(state, target, angle)
    assert math.isclose(sum(a * a for a in turned), 1.0, abs_tol=1e-9)
    assert turned[target] >= state[target] - 1e-12
    bounded = [a * a for a in bound(turned, epsilon)]
    assert math.isclose(sum(bounded), 1.0, abs_tol=1e-9)
    assert min(bounded) >= epsilon / (len(state) - 1) - 1e-12
    assert max(bounded) <= 1.0 - epsilon + 1e-9


@given(states, st.integers(0, 11))
def test_a_turn_is_by_its_angle_and_stops_at_the_target(state, target):
    target %= len(state)
    between = math.acos(min(state[target], 1.0))
    turned = rotate(state, target, between / 3)
    assert math.acos(min(sum(a * b for a, b in zip(state, turned, strict=True)), 1.0)) == pytest.approx(
        between / 3, abs=1e-6
    )
    assert rotate(state, target, between + 1.0)[target] == pytest.approx(1.0)


@example((0.7071067811865475, 0.7071067811865475), 0.5)
@given(states, epsilons)
def test_what_lies_above_the_floor_keeps_its_order(state, epsilon):
    before = [a * a for a in state]
    after = floored(before, epsilon)
    for one, other in zip(np.argsort(before), np.argsort(before)[1:], strict=False):
        assert after[one] <= after[other] + 1e-12


def test_two_options_turn_as_the_published_gate():
    theta, step = math.pi / 4, 0.05
    state = QDit.start(CategoricalDistribution([False, True]))
    turned = state.rotated(False, True, step, 0.0)
    assert turned.amplitudes == pytest.approx((math.cos(theta + step), math.sin(theta + step)))
    assert state.rotated(True, True, step, 0.0) is state
    low_bits = QDit.start(IntDistribution(4, 8, step=4)).rotated(4, 8, step, 0.0)
    assert low_bits.amplitudes == pytest.approx(turned.amplitudes)


def test_options_are_observed_by_their_squared_amplitude():
    generator = np.random.default_rng(0)
    seen = np.bincount([draw([0.1, 0.6, 0.3], generator) for _ in range(4000)], minlength=3) / 4000
    assert seen == pytest.approx([0.1, 0.6, 0.3], abs=0.03)
