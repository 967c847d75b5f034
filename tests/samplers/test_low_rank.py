import itertools

import dimod
import numpy as np
import pytest
from models import least_energy, random_model

from coldpress.errors import SamplerError
from coldpress.samplers import LowRankAnnealingSampler
from coldpress.samplers._low_rank import Form, energies, exchange_best, pull_of


def instance(n, rank, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(size=(n, rank)), rng.choice([-1.0, 0.5], size=rank)


def dense_energies(diagonal, factor, weights, bits):
    matrix = factor @ np.diag(weights) @ factor.T + np.diag(diagonal)
    return np.einsum("ri,ij,rj->r", bits, matrix, bits)


def test_energies_are_those_of_the_dense_matrix():
    diagonal, factor, weights = instance(30, 4, 0)
    found = LowRankAnnealingSampler().sample_low_rank(
        diagonal, factor, weights=weights, num_reads=5, num_sweeps=20, seed=0
    )
    bits = found.record.sample.astype(float)
    np.testing.assert_allclose(found.record.energy, dense_energies(diagonal, factor, weights, bits))


@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
def test_finds_the_ground_state_of_small_models(vartype):
    for seed in range(3):
        model = random_model(12, seed, vartype)
        found = LowRankAnnealingSampler().sample(model, num_reads=4, seed=0)
        assert found.first.energy == pytest.approx(least_energy(model))


@pytest.mark.parametrize("cardinality", [None, 0, 1, 5, 12])
def test_finds_the_least_of_all_states_with_as_many_ones(cardinality):
    diagonal, factor, weights = instance(12, 3, 1)
    found = LowRankAnnealingSampler().sample_low_rank(
        diagonal, factor, cardinality, weights=weights, num_reads=4, seed=0
    )
    bits = np.array(list(itertools.product((0, 1), repeat=12)), float)
    if cardinality is not None:
        bits = bits[bits.sum(axis=1) == cardinality]
        assert (found.record.sample.sum(axis=1) == cardinality).all()
    assert found.first.energy == pytest.approx(dense_energies(diagonal, factor, weights, bits).min())


def test_reads_end_where_no_flip_lowers_the_energy():
    diagonal, factor, weights = instance(50, 3, 2)
    found = LowRankAnnealingSampler().sample_low_rank(diagonal, factor, weights=weights, num_sweeps=5, seed=0).first
    state = np.array([found.sample[i] for i in range(50)], float)
    flipped = np.abs(state - np.eye(50))
    assert (dense_energies(diagonal, factor, weights, flipped) >= found.energy - 1e-9).all()


def test_an_exchange_lowers_the_energy_and_keeps_the_pull():
    diagonal, factor, weights = instance(40, 3, 3)
    form = Form(diagonal, factor, weights, (factor**2) @ weights)
    bits = (np.arange(40) < 15).astype(np.int8)
    pull = pull_of(form, bits)
    before = energies(form, bits[None])[0]
    while exchange_best(form, bits, pull):
        after = energies(form, bits[None])[0]
        assert after < before
        before = after
        np.testing.assert_allclose(pull, pull_of(form, bits), atol=1e-9)
    assert bits.sum() == 15


def test_begins_at_the_states_given_and_keeps_their_cardinality():
    diagonal, factor, weights = instance(10, 2, 4)
    start = np.arange(10) < 4
    found = LowRankAnnealingSampler().sample_low_rank(
        diagonal, factor, 4, weights=weights, initial_states=start, num_sweeps=1, beta_range=(1e6, 1e6), seed=0
    )
    begin = dense_energies(diagonal, factor, weights, start[None].astype(float))[0]
    assert found.first.energy <= begin + 1e-9


def test_the_same_seed_gives_the_same_samples():
    diagonal, factor, weights = instance(30, 3, 5)
    one, two = (
        LowRankAnnealingSampler().sample_low_rank(
            diagonal, factor, 11, weights=weights, num_reads=3, num_sweeps=10, seed=2
        )
        for _ in range(2)
    )
    np.testing.assert_array_equal(one.record.sample, two.record.sample)


@pytest.mark.parametrize("size", [1e-310, 1e290])
def test_numbers_of_any_size_are_annealed(size):
    found = LowRankAnnealingSampler().sample_low_rank([-size, size], np.zeros((2, 1)), num_sweeps=5, seed=0)
    assert list(found.first.sample.values()) == [1, 0]


def test_a_model_whose_eigenvectors_would_not_fit_is_refused_with_their_size():
    model = dimod.BinaryQuadraticModel({}, {(i, i + 1): 1.0 for i in range(40_000)}, 0.0, "SPIN")
    with pytest.raises(SamplerError, match=r"at most 5,000 .* 51\.2 GB"):
        LowRankAnnealingSampler().sample(model)


@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
def test_biases_that_overflow_are_refused(vartype):
    with pytest.raises(SamplerError, match="common factor"):
        LowRankAnnealingSampler().sample(dimod.BinaryQuadraticModel({0: 1e308}, {(0, 1): 1e308}, 0.0, vartype))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diagonal": [1.0, 2.0]}, "do not fit"),
        ({"factor": [1.0, 2.0, 3.0]}, "do not fit"),
        ({"weights": [1.0, 1.0, 1.0]}, "do not fit"),
        ({"diagonal": [1.0, float("nan"), 0.0]}, r"diagonal\[1\] is nan"),
        ({"factor": [[1.0, 0.0], [float("inf"), 0.0], [0.0, 0.0]]}, r"factor\[1, 0\] is inf"),
        ({"diagonal": [1e308, 1e308, 0.0]}, "common factor"),
        ({"factor": [[1e160, 0.0], [0.0, 1.0], [1.0, 1.0]]}, "common factor"),
        ({"diagonal": ["a", "b", "c"]}, "arrays of numbers"),
        ({"cardinality": 4}, "0 to 3"),
        ({"cardinality": -1}, "cardinality"),
        ({"initial_states": [[0, 2, 1]]}, "zeros and ones"),
        ({"initial_states": [[0, 1]]}, "zeros and ones"),
        ({"initial_states": [[0, 1, 1]], "cardinality": 1}, "exactly 1 ones"),
        ({"beta_range": (2.0, 1.0)}, "may not exceed"),
        ({"beta_range": (0.0, 1.0)}, "beta_range"),
        ({"beta_range": 3}, "first and the last"),
        ({"num_sweeps": 0}, "num_sweeps"),
        ({"num_reads": 0}, "num_reads"),
        ({"time_limit": 0}, "time_limit"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    given = {"diagonal": [1.0, -1.0, 0.5], "factor": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]} | change
    with pytest.raises(SamplerError, match=message):
        LowRankAnnealingSampler().sample_low_rank(**given)
