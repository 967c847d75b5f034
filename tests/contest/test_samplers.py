"""Models are read before the clock starts, and what is found is stamped as finely as a sampler tells it."""

import math
from dataclasses import replace

import dimod
import numpy as np
import pytest

from coldpress.contest import _samplers, contestant
from coldpress.contest._samplers import prepared, sample
from coldpress.contest.attempt import Attempt
from coldpress.instances import DenseQubo, Widths

MODEL = DenseQubo(40).make(0)


def test_one_call_of_tabu_takes_all_of_the_time_and_tells_when_it_improved(monkeypatch):
    found, way = [], _samplers.WAYS["tabu"]

    def call(given, effort, seed):
        found.append(way.call(given, effort, seed))
        return found[-1]

    def once(attempt, read, first, least, seed):
        assert first == attempt.limit
        read(0.05, seed)

    monkeypatch.setitem(_samplers.WAYS, "tabu", replace(way, call=call))
    _samplers.compiled("tabu")
    found.clear()
    monkeypatch.setattr("coldpress.contest._samplers.repeat", once)
    attempt = contestant("tabu").play(MODEL, 0, 60.0)
    assert [energy for _, energy in attempt.trace] == [energy for _, energy in found[0].info["improvements"]]
    assert attempt.trace[-1][0] < attempt.seconds
    assert attempt.energy == MODEL.energies((attempt.best, list(MODEL.variables)))[0]


@pytest.mark.parametrize("name", ["tabu", "bifurcation", "blocks", "low-rank"])
def test_no_call_of_ours_reads_the_model_again(name, monkeypatch):
    given, attempt = prepared(name, MODEL), Attempt(0.1)
    vectors = dimod.BinaryQuadraticModel.to_numpy_vectors

    def read_again(self, *args, **kwargs):
        assert len(self.variables) < len(MODEL.variables)  # blocks are models of their own
        return vectors(self, *args, **kwargs)

    monkeypatch.setattr(dimod.BinaryQuadraticModel, "to_numpy_vectors", read_again)
    found = []
    sample(name, given, attempt, 0, lambda one, began: found.append(one), 1.0)
    assert found


def test_d_waves_tabu_search_lays_its_matrix_out_once(monkeypatch):
    from dwave.samplers import TabuSampler

    laid, own = [], TabuSampler._bqm_to_tabu_qubo
    monkeypatch.setattr(TabuSampler, "_bqm_to_tabu_qubo", staticmethod(lambda bqm: laid.append(bqm) or own(bqm)))
    given, attempt = prepared("dwave-tabu", MODEL), Attempt(0.1)
    before, found = len(laid), []
    sample("dwave-tabu", given, attempt, 0, lambda one, began: found.append(one), 1 / 32)
    assert len(found) > 1
    assert len(laid) == before
    dimod.testing.assert_response_energies(found[-1], MODEL)


@pytest.mark.parametrize("name", ["dwave-sa", "dwave-path-integral", "dwave-descent"])
def test_the_time_that_d_waves_samplers_read_at_every_call_is_known(name):
    given = prepared(name, MODEL)
    assert given.reading > 0
    found = _samplers.WAYS[name].idle(given)
    if name == "dwave-descent":  # it went nowhere
        assert found.first.energy == pytest.approx(given.minimum.first.energy)


def test_what_d_waves_samplers_take_to_read_is_not_counted(monkeypatch):
    monkeypatch.setattr("coldpress.contest._samplers.repeat", lambda attempt, read, *_: read(1.0, 0))
    given = prepared("dwave-sa", MODEL)
    for given.reading in (0.0, 1e9):  # of so much no more than the call took
        attempt = Attempt(10.0)
        begin = attempt.begin
        sample("dwave-sa", given, attempt, 0, lambda one, began: None, 1.0)
        assert (attempt.begin > begin) == (given.reading > 0)
        assert attempt.seconds > 0


def test_improvements_of_a_call_keep_their_times():
    attempt = Attempt(10.0)
    attempt.offer([[0, 1]], [3.0], None, [(0.25, 7.0), (0.5, 3.0 + 1e-12)])
    assert attempt.trace == [(0.25, 7.0), (0.5, 3.0)]
    assert attempt.best.tolist() == [0, 1]
    attempt.offer([[1, 1]], [1.0], None, [(9.0, 2.0), (11.0, 1.0)])
    assert attempt.energy == 1.0  # this clock shows less than ten seconds


def test_of_a_call_that_ended_too_late_what_was_in_time_counts_without_its_state():
    attempt = Attempt(1.0)
    attempt.pause(-2.0)
    attempt.offer([[1, 1]], [1.0], None, [(0.5, 2.0), (1.5, 1.0)])
    assert attempt.trace == [(0.5, 2.0)]
    assert attempt.best is None


def test_what_chains_did_is_told_of_layer_choice_too(monkeypatch):
    def embedded(given, effort, seed):
        found = dimod.SampleSet.from_samples_bqm(dict.fromkeys(given.model.variables, 0), given.model)
        found.info.update(chain_break_fraction=0.25, qubits=40, longest_chain=5)
        return found

    way = type(_samplers.WAYS["tabu"])(embedded, 10)
    monkeypatch.setitem(_samplers.WAYS, "mock-qpu-simulated", way)
    monkeypatch.setattr("coldpress.contest._samplers.repeat", lambda attempt, read, *_: read(10.0, 0))
    for instance in (DenseQubo(6).make(0), Widths(3, 3).make(0)):
        attempt = contestant("mock-qpu-simulated").play(instance, 0, 20.0)
        assert attempt.more.items() >= {"chain breaks": 0.25, "qubits": 40.0, "longest chain": 5.0}.items()


def test_improvements_of_our_samplers_end_at_their_best():
    from coldpress import samplers

    for one in (samplers.OneFlipTabuSampler, samplers.SimulatedBifurcationSampler, samplers.LowRankAnnealingSampler):
        for vartype in ("BINARY", "SPIN"):
            model = dimod.BinaryQuadraticModel(np.triu(np.random.default_rng(1).normal(size=(20, 20))), vartype)
            model.offset = 3.5
            found = one().sample(model, num_reads=3, seed=0)
            met = found.info["improvements"]
            assert [seconds for seconds, _ in met] == sorted(seconds for seconds, _ in met)
            assert [energy for _, energy in met] == sorted((energy for _, energy in met), reverse=True)
            assert math.isclose(met[-1][1], found.first.energy, rel_tol=1e-9)
            assert met[-1][0] <= found.info["seconds"]
