"""The whole way over qubits, on the vendor's mocks; each failure tells what to do, and no read is lost."""

import concurrent.futures
import logging
import unittest

import dimod
import dimod.testing
import numpy as np
import pytest
from dwave.system.testing import MockDWaveSampler
from models import least_energy, random_model

from coldpress.errors import HardwareError, SamplerError
from coldpress.samplers.hardware import EmbeddedSampler, Embedding, open_reads
from coldpress.samplers.kinds import MOCK
from coldpress.samplers.named import make, mock


class NeverDone(MockDWaveSampler):
    """Takes a problem and gives no answer."""

    def sample(self, bqm, **parameters):
        future = concurrent.futures.Future()
        future.wait_id = lambda timeout=None: "4711-abc"
        return dimod.SampleSet.from_future(future, lambda done: done.result())


def small_mock():
    return EmbeddedSampler(mock("pegasus", 3))


@dimod.testing.load_sampler_bqm_tests(small_mock)
class TestDimodSuite(unittest.TestCase):
    pass


def test_it_is_a_sampler_by_dimods_checks():
    sampler = small_mock()
    dimod.testing.assert_sampler_api(sampler)
    dimod.testing.assert_composite_api(sampler)


@pytest.mark.parametrize("topology", ["pegasus", "zephyr"])
@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
def test_the_ground_state_is_found_over_chains(topology, vartype):
    model = random_model(9, 3, vartype)
    found = EmbeddedSampler(mock(topology, 3)).sample(model, num_reads=50, seed=0)
    assert float(found.first.energy) == pytest.approx(least_energy(model))
    np.testing.assert_allclose(found.record.energy, model.energies(found), atol=1e-9)
    info = found.info
    assert info["kind"] == MOCK
    assert info["longest_chain"] > 1
    assert info["qubits"] > 9
    assert 0.0 <= info["chain_break_fraction"] <= 1.0
    assert info["chain_break_fraction"] == pytest.approx(np.average(found.record.chain_break_fraction))
    assert info["chain_break_method"] == "majority_vote"
    assert not {"qpu_access_ms", "problem_id", "estimated_qpu_ms"} & set(info)  # a mock makes them up


def test_weak_chains_break_and_are_reported():
    model = random_model(12, 1)
    weak, strong = (small_mock().sample(model, seed=0, chain_strength=strength).info for strength in (1e-3, 10.0))
    assert weak["chain_break_fraction"] > strong["chain_break_fraction"]
    assert weak["reads_with_broken_chains"] > 0


def test_same_seed_same_samples():
    pairs = dimod.BinaryQuadraticModel(
        {}, {(2 * i, 2 * i + 1): -1.0 for i in range(8)}, 0.0, "SPIN"
    )  # 2^8 ground states
    runs = [small_mock().sample(pairs, num_reads=5, seed=seed).record.sample for seed in (7, 7, 8)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_wrong_arguments_are_named():
    sampler, model = small_mock(), random_model(4, 0)
    for words, settings in (
        ("num_reads is 0", {"num_reads": 0}),
        ("chain_strength is -1", {"chain_strength": -1}),
        ("chain_break_method is 'luck'", {"chain_break_method": "luck"}),
        ("annealing_time is 0", {"annealing_time": 0}),
        ("time_limit is 0", {"time_limit": 0}),
    ):
        with pytest.raises(SamplerError, match=words):
            sampler.sample(model, **settings)
    with pytest.raises(SamplerError, match="no qubits"):
        EmbeddedSampler(dimod.ExactSolver())
    with pytest.raises(SamplerError, match="nan"):
        sampler.sample(dimod.BinaryQuadraticModel({"a": float("nan")}, {}, 0.0, "SPIN"))


def test_an_answer_that_does_not_come_is_named_by_its_id(caplog):
    sampler = EmbeddedSampler(NeverDone(topology_type="pegasus", topology_shape=[2]))
    with pytest.raises(HardwareError, match=r"no answer within .* \(problem 4711-abc: .*fetched.*time_limit"):
        sampler.sample(random_model(3, 0), time_limit=0.2)


def test_an_interrupted_wait_tells_the_id(caplog, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("coldpress.samplers.hardware.vendor.time.sleep", interrupt)
    sampler = EmbeddedSampler(NeverDone(topology_type="pegasus", topology_shape=[2]))
    with caplog.at_level(logging.WARNING), pytest.raises(KeyboardInterrupt):
        sampler.sample(random_model(3, 0))
    assert "4711-abc" in caplog.text


@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
def test_reads_are_kept_before_anything_is_done_with_them(tmp_path, monkeypatch, vartype):
    model = random_model(8, 2, vartype)

    def fail(*arguments):
        raise RuntimeError("the power went")

    with monkeypatch.context() as broken:
        broken.setattr(Embedding, "read_back", fail)
        with pytest.raises(RuntimeError, match="the power went"):
            make("mock-pegasus:3", tmp_path / "reads").sample(model, num_reads=20, seed=5)
    (file,) = (tmp_path / "reads").iterdir()
    again = open_reads(file).sample(model)
    whole = make("mock-pegasus:3").sample(model, num_reads=20, seed=5)
    np.testing.assert_allclose(np.sort(again.record.energy), np.sort(whole.record.energy))
    assert again.info["chain_break_fraction"] == pytest.approx(whole.info["chain_break_fraction"])
    assert again.info["kind"] == MOCK
    with pytest.raises(SamplerError, match="another model"):
        open_reads(file).sample(random_model(8, 3, vartype))
    with pytest.raises(SamplerError, match="another model"):
        open_reads(file).sample(random_model(7, 2, vartype))


def test_files_of_reads_do_not_replace_each_other(tmp_path):
    sampler, model = make("mock-zephyr:2", tmp_path), random_model(3, 0)
    files = {sampler.sample(model, num_reads=2, seed=seed).info["reads_file"] for seed in range(3)}
    assert len(files) == 3


@pytest.mark.parametrize("content", ["", "{}", '{"coldpress_reads": 1}', '{"coldpress_reads": 9}', "[]"])
def test_a_file_without_reads_is_told(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    for path in (tmp_path / "a.json", tmp_path / "none.json"):
        with pytest.raises(SamplerError, match="reads"):
            open_reads(path)
