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


def test_layouts_and_precisions_agree():
    dense, sparse = random_model(40, 0), random_model(40, 0, density=0.05)
    far = sparse.copy()
    far.add_linear(0, 1e9)
    assert lay_out(read(dense)).matrix.dtype == np.float32
    assert lay_out(read(sparse)).rows[2].dtype == np.float32
    assert lay_out(read(far)).rows[2].dtype == np.float64


def test_small_terms_beside_huge_ones_count():
    model = random_model(10, 3)
    before = least_energy(model)
    model.add_variable("far", 1e9)
    found = OneFlipTabuSampler().sample(model, seed=0, num_restarts=20).first
    assert found.sample["far"] == 0
    assert found.energy == pytest.approx(before, abs=1e-6)


def test_deltas_after_a_search_are_those_computed_anew():
    couplings = lay_out(read(random_model(90, 5)))
    random = np.ones(1, np.uint64)
    walk = couplings.begin(np.zeros(90, np.int8), random)
    couplings.search(walk, 3, 5, 10_000, 500)
    again = couplings.begin((walk.sign[:90] < 0).astype(np.int8), random)
    np.testing.assert_allclose(walk.delta[:90], again.delta[:90], atol=1e-3)
    assert walk.energy[0] == pytest.approx(again.energy[0], abs=1e-3)
    assert walk.energy[1] <= walk.energy[0]


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
