"""Each way in which the vendor's client fails ends in one error that says what to do; the token is never told."""

import concurrent.futures
import logging
import sys

import dimod
import pytest
import requests
from dwave.cloud import exceptions as cloud
from dwave.cloud.api import exceptions as api
from dwave.system.testing import MockDWaveSampler
from models import least_energy, random_model

from coldpress.errors import HardwareError, SamplerError
from coldpress.samplers.hardware import HybridCQMSampler, HybridSampler, open_reads
from coldpress.samplers.kinds import MOCK, describe
from coldpress.samplers.named import check, make
from coldpress.solvers.qubo import sample

FAILURES = [
    (cloud.SolverAuthenticationError(), "token is refused"),
    (cloud.SolverNotFoundError("no such solver"), "dwave solvers --list"),
    (cloud.SolverOfflineError(), "offline"),
    (api.ResourceAccessForbiddenError(), "your account"),
    (api.ResourceLimitsExceededError(), "quota"),
    (api.RequestTimeout(), "cannot be reached"),
    (requests.exceptions.ConnectionError("no route"), "is there a network"),
    (cloud.PollingTimeout("polling"), "longer time_limit"),
    (cloud.ProblemUploadError("upload"), "cannot be reached"),
    (cloud.InvalidProblemError("num_reads out of range"), "does not take this model"),
    (cloud.SolverFailureError("it broke"), "try again later"),
    (cloud.CanceledFutureError(), "given up"),
    (ValueError("bad argument"), "change what it names"),
]


class FailingLater(MockDWaveSampler):
    """Takes a problem, and fails while it is waited for."""

    error: Exception

    def sample(self, bqm, **parameters):
        future = concurrent.futures.Future()
        future.set_exception(self.error)
        return dimod.SampleSet.from_future(future, lambda done: done.result())


def raising(error):
    def fail(*arguments, **settings):
        raise error

    return fail


@pytest.mark.parametrize("name", ["dwave-qpu", "dwave-hybrid", "dwave-hybrid-cqm", "dwave-qpu:Advantage_system6.4"])
def test_without_a_token_nothing_is_tried(no_configuration, monkeypatch, name):
    for kind in ("DWaveSampler", "LeapHybridSampler", "LeapHybridCQMSampler"):
        monkeypatch.setattr(f"dwave.system.{kind}", raising(AssertionError("called")))
    for attempt in (check, make):
        with pytest.raises(HardwareError, match=r"no token.*dwave config create.*DWAVE_API_TOKEN"):
            attempt(name)


def test_a_broken_configuration_is_told_without_its_words(no_configuration):
    no_configuration.write_text("[defaults]\ntoken SECRET\n")
    with pytest.raises(HardwareError, match="dwave config inspect") as told:
        make("dwave-qpu")
    assert "SECRET" not in str(told.value)


@pytest.mark.parametrize("name", ["dwave-qpu", "mock-pegasus"])
def test_without_the_extra_it_is_named(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "dwave.system", None)
    for attempt in (check, make):
        with pytest.raises(HardwareError, match=r"pip install 'coldpress\[dwave\]'"):
            attempt(name)


@pytest.mark.parametrize(("error", "words"), FAILURES)
@pytest.mark.parametrize("name", ["dwave-qpu", "dwave-hybrid:some", "dwave-hybrid-cqm"])
def test_what_fails_while_connecting_is_told(token, monkeypatch, error, words, name):
    for kind in ("DWaveSampler", "LeapHybridSampler", "LeapHybridCQMSampler"):
        monkeypatch.setattr(f"dwave.system.{kind}", raising(error))
    with pytest.raises(HardwareError, match=words):
        make(name)


@pytest.mark.parametrize(("error", "words"), FAILURES)
def test_what_fails_while_sampling_is_told(error, words):
    child = FailingLater(topology_type="pegasus", topology_shape=[2])
    child.error = error
    from coldpress.samplers.hardware import EmbeddedSampler

    with pytest.raises(HardwareError, match=words):
        EmbeddedSampler(child).sample(random_model(3, 0))


def test_the_token_is_never_told(token, monkeypatch, caplog):
    error = cloud.SolverAuthenticationError(f"refused: {token}")
    monkeypatch.setattr("dwave.system.DWaveSampler", raising(error))
    with caplog.at_level(logging.DEBUG, "coldpress"), pytest.raises(HardwareError) as told:
        make("dwave-qpu")
    assert "***" in str(told.value)
    assert token not in str(told.value) + caplog.text


def test_a_mock_in_place_of_the_vendors_qpu_is_still_called_a_mock(token, monkeypatch):
    asked = {}

    def connect(**settings):
        asked.update(settings)
        return MockDWaveSampler(topology_type="zephyr", topology_shape=[2, 4])

    monkeypatch.setattr("dwave.system.DWaveSampler", connect)
    sampler = make("dwave-qpu:Advantage2_system1")
    assert asked == {"solver": {"name": "Advantage2_system1"}}  # and no token: the vendor's client finds it
    assert MOCK in describe(sampler)
    model = random_model(5, 0)
    assert float(sampler.sample(model, num_reads=30, seed=0).first.energy) == pytest.approx(least_energy(model))


class Service(dimod.ExactSolver):
    """A hybrid service of BQMs that answers exactly, for its own time."""

    def min_time_limit(self, model):
        return 3.0

    def sample(self, model, time_limit=None):
        assert time_limit >= 3.0
        found = super().sample(model)
        found.info.update(problem_id="77", run_time=3e6, charge_time=3e6, qpu_access_time=0)
        return found


class ConstrainedService(dimod.ExactCQMSolver):
    """The same of CQMs."""

    min_time_limit = Service.min_time_limit

    def sample_cqm(self, model, time_limit=None):
        assert time_limit >= 3.0
        return super().sample_cqm(model)


def test_a_hybrid_service_is_asked_for_its_least_time_and_kept(tmp_path):
    model = random_model(6, 0)
    found = HybridSampler(Service(), tmp_path).sample(model)
    assert float(found.first.energy) == pytest.approx(least_energy(model))
    assert (found.info["run_ms"], found.info["qpu_access_ms"], found.info["problem_id"]) == (3000.0, 0.0, "77")
    again = open_reads(found.info["reads_file"]).sample(model)
    assert float(again.first.energy) == pytest.approx(least_energy(model))
    with pytest.raises(HardwareError, match="at least 3 s for this model: give time_limit=3"):
        HybridSampler(Service()).sample(model, time_limit=1.0)
    samples, kind = sample(model, HybridSampler(Service()), name="hybrid", time_limit=5.0)
    assert float(samples.first.energy) == pytest.approx(least_energy(model))
    assert "of unknown kind" in kind  # a class that is not the vendor's own is not taken for it


def test_a_hybrid_service_of_constrained_models_is_kept_too(tmp_path):
    x, y = dimod.Binaries(["x", "y"])
    model = dimod.ConstrainedQuadraticModel()
    model.set_objective(-2 * x - y)
    model.add_constraint(x + y <= 1, label="one")
    found = HybridCQMSampler(ConstrainedService(), tmp_path).sample_cqm(model, time_limit=4.0)
    (file,) = tmp_path.iterdir()
    again = open_reads(file).sample_cqm(model)
    assert sorted(again.record.energy) == sorted(found.record.energy)
    other = dimod.ConstrainedQuadraticModel()
    other.set_objective(dimod.Binary("z"))
    with pytest.raises(SamplerError, match="other variables"):
        open_reads(file).sample_cqm(other)
