"""Numbers and angles: there and back, ordered states inside their bound, and ranges that change."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution, IntDistribution

from coldpress.search.angles import OrderedAngle
from coldpress.search.scales import RIGHT_ANGLE, Scale

RANGES = [
    FloatDistribution(-3.0, 5.0),
    FloatDistribution(1e-6, 1e2, log=True),
    FloatDistribution(-10.2, 10.2, step=0.1),
    IntDistribution(3, 12),
    IntDistribution(0, 4096, step=16),
    IntDistribution(1, 1000, log=True),
    IntDistribution(1, 9, log=True),
]


@pytest.mark.parametrize("distribution", RANGES, ids=str)
@given(part=st.floats(0.0, 1.0))
def test_a_value_comes_back_from_its_angle(distribution, part):
    scale = Scale.of(distribution)
    value = scale.value(part * RIGHT_ANGLE)
    assert distribution._contains(distribution.to_internal_repr(value))
    assert type(value) is (int if isinstance(distribution, IntDistribution) else float)
    assert scale.value(scale.angle(value)) == pytest.approx(value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("distribution", RANGES, ids=str)
def test_angles_rise_with_the_values_from_end_to_end(distribution):
    scale = Scale.of(distribution)
    values = np.linspace(distribution.low, distribution.high, 11)
    angles = [scale.angle(value) for value in values]
    assert angles == sorted(angles)
    assert 0.0 <= angles[0] < angles[-1] <= RIGHT_ANGLE
    assert scale.angle(distribution.low - 1e6) == 0.0
    assert scale.angle(distribution.high + 1e6) == RIGHT_ANGLE


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30),
    st.floats(0.01, math.pi / 2),
    st.floats(0.0, 0.4),
)
def test_every_level_stays_possible(steps, rotation, epsilon):
    state = OrderedAngle.start(IntDistribution(0, 9))
    for seen, best in steps:
        state = state.rotated(seen, best, rotation, epsilon)
    chances = state.probabilities(epsilon)
    assert sum(chances) == pytest.approx(1.0)
    assert min(chances) >= epsilon / 9 - 1e-12
    assert 0.0 <= state.theta <= RIGHT_ANGLE


def test_turns_gather_on_the_best_level_and_successes_spread():
    state = OrderedAngle.start(IntDistribution(0, 9))
    chance = state.probabilities(0.01)[7]
    for _ in range(12):
        state = state.rotated(2, 7, 0.3, 0.01)
    assert state.probabilities(0.01)[7] > 0.9 > chance
    assert state.settled(7).spread > state.spread


@pytest.mark.parametrize("distribution", RANGES, ids=str)
def test_draws_lie_in_the_range_and_near_the_centre(distribution):
    generator = np.random.default_rng(0)
    state = OrderedAngle.start(distribution)
    wide = [state.scale.angle(state.observe(generator, 0.01)) for _ in range(200)]
    for _ in range(20):
        state = state.rotated(distribution.low, distribution.high, 0.3, 0.01)
    near = [state.scale.angle(state.observe(generator, 0.0)) for _ in range(200)]
    assert np.std(near) < np.std(wide)
    assert np.median(near) > np.median(wide)


def test_a_changed_range_keeps_the_value():
    state = OrderedAngle.start(FloatDistribution(0.0, 10.0)).rotated(0.0, 8.0, 1.0, 0.01)
    wider = state.on(FloatDistribution(0.0, 40.0))
    assert wider.scale.value(wider.theta) == pytest.approx(state.scale.value(state.theta))
    assert wider.spread == pytest.approx(state.spread / 4)
    beside = state.on(FloatDistribution(20.0, 30.0))
    assert beside.theta == 0.0
    assert state.on(FloatDistribution(1.0, 10.0, log=True)).spread == OrderedAngle.start(RANGES[0]).spread
