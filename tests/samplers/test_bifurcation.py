import numpy as np
import pytest
import torch
from models import least_energy, random_model

from coldpress.errors import SamplerError
from coldpress.samplers import SimulatedBifurcationSampler
from coldpress.samplers._model import read
from coldpress.samplers.bifurcation import _couplings


@pytest.mark.parametrize("mode", ["ballistic", "discrete"])
@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
def test_finds_the_ground_state_of_small_models(mode, vartype):
    for seed in range(3):
        model = random_model(12, seed, vartype)
        found = SimulatedBifurcationSampler().sample(model, mode=mode, seed=0)
        assert found.first.energy == pytest.approx(least_energy(model))
        assert found.info["mode"] == mode
        assert found.info["steps"] == 1000


def test_forces_are_the_derivative_of_the_energy_up_to_a_factor():
    model = random_model(6, 1, "SPIN")
    forces = _couplings(read(model)).double()
    rng = np.random.default_rng(0)
    signs = torch.tensor(2.0 * rng.integers(0, 2, (7, 20)) - 1.0)
    signs[-1] = 1.0
    quadratic = -0.5 * (signs * (forces @ signs)).sum(dim=0).numpy()
    true = model.energies((signs[:-1].T.numpy().astype(int), list(model.variables))) - model.offset
    assert np.corrcoef(quadratic, true)[0, 1] == pytest.approx(1.0)


def test_scale_of_the_energy_does_not_matter():
    one, two = (random_model(10, 2, scale=scale) for scale in (1.0, 1e12))
    first, second = (SimulatedBifurcationSampler().sample(model, num_reads=4, seed=0) for model in (one, two))
    np.testing.assert_array_equal(first.record.sample, second.record.sample)


def test_sparse_and_dense_couplings_give_the_same_forces():
    model = read(random_model(80, 3, "SPIN", density=0.01))
    forces = _couplings(model)
    assert forces.is_sparse
    dense = forces.to_dense()
    assert torch.equal(dense, dense.T)
    found = SimulatedBifurcationSampler().sample(random_model(80, 3, "SPIN", density=0.01), num_reads=2, seed=0)
    assert len(found) == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "adiabatic"}, "'ballistic', 'discrete'"),
        ({"time_step": 0.0}, "time_step"),
        ({"num_steps": 0}, "num_steps"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_what_cannot_be_used_is_named(given, message):
    with pytest.raises(SamplerError, match=message):
        SimulatedBifurcationSampler().sample(random_model(3, 0), **given)
