"""Samplers by name, and what each of them is called."""

import dimod
import pytest
from dwave.samplers import SimulatedAnnealingSampler, SteepestDescentComposite
from dwave.system import DWaveSampler, LeapHybridSampler
from dwave.system.testing import MockDWaveSampler
from models import least_energy, random_model

from coldpress.errors import SamplerError
from coldpress.samplers import BlockDecomposer, QAOASampler
from coldpress.samplers.asking import ask
from coldpress.samplers.kinds import HYBRID, MOCK, describe, is_far
from coldpress.samplers.named import LOCAL, NAMES, check, is_name, make


@pytest.mark.parametrize("name", sorted(LOCAL))
def test_every_local_name_is_a_sampler_that_samples(name):
    model = random_model(6, 0)
    sampler = make(name)
    found = ask(sampler, model, num_reads=20, seed=0, time_limit=1.0)
    if name != "qaoa":
        assert float(found.first.energy) == pytest.approx(least_energy(model))
    assert not is_far(sampler)
    assert "unknown" not in describe(sampler)


def test_unknown_names_and_sizes_are_told():
    with pytest.raises(SamplerError, match="did you mean 'path-integral'"):
        make("path-integrall")
    for name in ("mock-pegasus:big", "mock-zephyr:-2"):
        with pytest.raises(SamplerError, match="no size"):
            check(name)
    assert all(is_name(name) for name in NAMES)
    assert not is_name("sa:3")
    assert not is_name("reads")


def test_only_the_vendors_own_classes_are_called_quantum():
    class Derived(DWaveSampler):
        pass

    class DerivedMock(MockDWaveSampler):
        pass

    qpu, derived = (kind.__new__(kind) for kind in (DWaveSampler, Derived))
    qpu._properties = derived._properties = {"chip_id": "Advantage_system6.4"}
    assert describe(qpu) == "quantum annealer Advantage_system6.4"
    assert is_far(qpu)
    assert "of unknown kind" in describe(derived)
    assert describe(DerivedMock()) == MOCK
    assert MOCK in describe(BlockDecomposer(DerivedMock(), 3))
    assert describe(LeapHybridSampler.__new__(LeapHybridSampler)) == HYBRID


def test_classical_and_simulated_samplers_are_called_so():
    assert describe(SimulatedAnnealingSampler()) == "simulated annealing, classical"
    assert "simulated classically" in describe(QAOASampler())
    assert describe(SteepestDescentComposite(SimulatedAnnealingSampler())).endswith("simulated annealing, classical")
    assert "classical" in describe(dimod.ExactSolver())
    assert describe(object()) == "builtins.object, of unknown kind"
