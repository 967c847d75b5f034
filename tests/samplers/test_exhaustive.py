import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import random_model

from coldpress.errors import SamplerError
from coldpress.samplers import ExhaustiveSampler


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 13), seed=st.integers(0, 1000), vartype=st.sampled_from(["SPIN", "BINARY"]))
def test_gives_the_lowest_states_of_all(n, seed, vartype):
    model = random_model(n, seed, vartype)
    found = ExhaustiveSampler().sample(model, num_reads=10)
    all_states = np.sort(dimod.ExactSolver().sample(model).record.energy)
    np.testing.assert_allclose(found.record.energy, all_states[:10], atol=1e-9)
    assert len({tuple(row) for row in found.record.sample}) == min(10, 2**n)


def test_many_reads_of_many_states_are_the_lowest():
    model = random_model(14, 3)
    found = ExhaustiveSampler().sample(model, num_reads=500)
    all_states = np.sort(dimod.ExactSolver().sample(model).record.energy)
    np.testing.assert_allclose(found.record.energy, all_states[:500], atol=1e-9)


def test_gives_all_ground_states_by_default():
    square = dimod.BinaryQuadraticModel({}, {(i, (i + 1) % 5): 0.1 for i in range(5)}, 0.0, "SPIN")
    found = ExhaustiveSampler().sample(square)
    assert len(found) == found.info["ground_states"] == 10
    np.testing.assert_allclose(found.record.energy, -0.3)


def test_ground_states_beyond_the_most_are_counted():
    free = dimod.BinaryQuadraticModel(dict.fromkeys(range(17), 0.0), {}, 0.0, "BINARY")
    found = ExhaustiveSampler().sample(free)
    assert len(found) == 65536
    assert found.info["ground_states"] == 131072


def test_more_than_twenty_four_variables_are_refused_with_the_way_out():
    with pytest.raises(SamplerError, match=r"at most 24 .* has 25; .*OneFlipTabuSampler"):
        ExhaustiveSampler().sample(random_model(25, 0, density=0.0))
