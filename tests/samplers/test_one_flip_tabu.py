import dimod
import numpy as np
import pytest
from models import least_energy, random_model

from coldpress.errors import SamplerError
from coldpress.samplers import OneFlipTabuSampler
from coldpress.samplers._couplings import lay_out
from coldpress.samplers._model import read


@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
@pytest.mark.parametrize("density", [0.05, 1.0], ids=["sparse", "dense"])
def test_finds_the_ground_state_of_small_models(vartype, density):
    for seed in range(3):
        model = random_model(14, seed, vartype, density)
        found = OneFlipTabuSampler().sample(model, seed=0, num_restarts=20)
        assert found.first.energy == pytest.approx(least_energy(model))


def whole_numbers(n, density=1.0):
    model = random_model(n, 0, density=density, scale=100.0)
    rounded = dimod.BinaryQuadraticModel(model.vartype)
    rounded.add_linear_from((v, round(bias)) for v, bias in model.linear.items())
    rounded.add_quadratic_from((u, v, round(bias)) for (u, v), bias in model.quadratic.items())
    return rounded


def test_whole_numbers_go_in_single_precision_and_others_in_double():
    assert lay_out(read(whole_numbers(40))).matrix.dtype == np.float32
    assert lay_out(read(whole_numbers(40, 0.05))).rows[2].dtype == np.float32
    assert lay_out(read(random_model(40, 0))).matrix.dtype == np.float64
    assert lay_out(read(random_model(40, 0, density=0.05))).rows[2].dtype == np.float64


@pytest.mark.parametrize("density", [0.05, 1.0], ids=["sparse", "dense"])
def test_whole_numbers_are_solved(density):
    model = whole_numbers(14, density)
    assert OneFlipTabuSampler().sample(model, seed=0, num_restarts=20).first.energy == least_energy(model)


def test_small_terms_beside_huge_ones_count():
    model = random_model(10, 3)
    before = least_energy(model)
    model.add_variable("far", 1e9)
    found = OneFlipTabuSampler().sample(model, seed=0, num_restarts=20).first
    assert found.sample["far"] == 0
    assert found.energy == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize("density", [0.05, 1.0], ids=["sparse", "dense"])
def test_deltas_after_many_flips_are_exactly_those_computed_anew(density):
    couplings = lay_out(read(random_model(90, 5, density=density)))
    random = np.ones(1, np.uint64)
    walk = couplings.begin(np.zeros(90, np.int8), random)
    couplings.search(walk, 3, 5, 10_000, 5000)
    again = couplings.begin((walk.sign[:90] < 0).astype(np.int8), random)
    np.testing.assert_array_equal(walk.delta[:90], again.delta[:90])
    assert walk.energy[0] == again.energy[0]
    assert walk.energy[1] <= walk.energy[0]


def test_scanning_touched_blocks_alone_keeps_the_least_deltas():
    couplings, fields = {(i, (i + 1) % 900): 2 for i in range(900)}, {i: i % 7 - 3 for i in range(900)}
    ring = dimod.BinaryQuadraticModel(fields, couplings, 0.0, "SPIN")
    couplings = lay_out(read(ring).as_binary())
    walk = couplings.begin(np.zeros(900, np.int8), np.ones(1, np.uint64))
    couplings.search(walk, 80, 10, 10_000, 777)
    np.testing.assert_array_equal(walk.least, walk.delta.reshape(-1, 64).min(axis=1))
    allowed = np.where(walk.until <= walk.iteration[0], walk.delta, walk.delta[-1]).reshape(-1, 64).min(axis=1)
    assert (walk.least_free >= allowed).all()


def test_relinking_goes_as_many_flips_toward_the_goal_as_asked():
    couplings = lay_out(read(random_model(70, 6)))
    rng = np.random.default_rng(0)
    start, goal = rng.integers(0, 2, (2, 70), dtype=np.int8)
    between = couplings.between(start, goal, 9, np.ones(1, np.uint64))
    assert np.count_nonzero(between != start) == 9
    assert np.count_nonzero(between != goal) == np.count_nonzero(start != goal) - 9


def test_more_restarts_are_never_worse():
    model = random_model(60, 7)
    one, many = (OneFlipTabuSampler().sample(model, seed=1, num_restarts=r).first.energy for r in (1, 20))
    assert many <= one


@pytest.mark.parametrize("name", ["num_restarts", "patience", "tenure"])
def test_counts_below_their_least_are_refused(name):
    with pytest.raises(SamplerError, match=name):
        OneFlipTabuSampler().sample(random_model(3, 0), **{name: -1})
