"""dimod's own suite for samplers, on all of ours, and what it does not ask for."""

import itertools
import unittest

import dimod
import dimod.testing
import numpy as np
import pytest
from models import FACTORIES, random_model

from coldpress import samplers
from coldpress.errors import SamplerError
from coldpress.solvers.as_sampler import SolverSampler


def exact_solver():
    return SolverSampler("exact")


@dimod.testing.load_sampler_bqm_tests(samplers.OneFlipTabuSampler)
@dimod.testing.load_sampler_bqm_tests(samplers.LowRankAnnealingSampler)
@dimod.testing.load_sampler_bqm_tests(samplers.SimulatedBifurcationSampler)
@dimod.testing.load_sampler_bqm_tests(samplers.QAOASampler)
@dimod.testing.load_sampler_bqm_tests(samplers.ExhaustiveSampler)
@dimod.testing.load_sampler_bqm_tests(FACTORIES[0])
@dimod.testing.load_sampler_bqm_tests(exact_solver)
class TestSuite(unittest.TestCase):
    pass


def name_of(make):
    return make.__name__


@pytest.fixture(params=FACTORIES, ids=name_of)
def sampler(request):
    return request.param()


@pytest.fixture(params=[make for make in FACTORIES if "time_limit" in make().parameters], ids=name_of)
def timed(request):
    return request.param()


@pytest.fixture(params=[make for make in FACTORIES if "initial_states" in make().parameters], ids=name_of)
def started(request):
    return request.param()


def test_the_package_exports_what_is_listed_in_order():
    assert samplers.__all__ == sorted(samplers.__all__)
    assert all(isinstance(getattr(samplers, name), type) for name in samplers.__all__)


def test_has_the_api_of_a_sampler(sampler):
    dimod.testing.assert_sampler_api(sampler)


def test_the_decomposer_has_the_api_of_a_composite():
    dimod.testing.assert_composite_api(FACTORIES[0]())


def test_every_listed_parameter_is_an_argument(sampler):
    names = sampler.sample.__func__.__kwdefaults__
    assert set(sampler.parameters) == set(names)


@pytest.mark.parametrize("vartype", ["SPIN", "BINARY"])
def test_energies_are_those_of_the_model(sampler, vartype):
    model = random_model(7, 1, vartype)
    found = sampler.sample(model, num_reads=3, seed=0)
    dimod.testing.assert_response_energies(found, model)
    assert len(found) == 3
    assert found.vartype is model.vartype
    assert found.info["seconds"] >= 0
    assert any(word in found.info["method"] for word in ("classical", "around"))


def test_the_same_seed_gives_the_same_samples(sampler):
    model = random_model(9, 2)
    first, second = (sampler.sample(model, num_reads=3, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.record.sample, second.record.sample)


def test_the_order_of_labels_does_not_matter(sampler):
    model = dimod.BinaryQuadraticModel({"c": 1.0, "a": -2.0, "b": 0.25}, {("c", "b"): -0.5}, 0.0, "SPIN")
    assert sampler.sample(model, seed=0, num_reads=4).first.sample == {"a": 1, "b": -1, "c": -1}


def test_a_model_without_couplings_is_solved(sampler):
    model = dimod.BinaryQuadraticModel({"a": 1.0, "b": -2.0, "c": 0.0}, {}, 0.5, "SPIN")
    assert sampler.sample(model, seed=0).first.energy == pytest.approx(-2.5)


def test_a_constant_model_is_sampled(sampler):
    model = dimod.BinaryQuadraticModel({"a": 0.0, "b": 0.0}, {("a", "b"): 0.0}, 0.5, "BINARY")
    assert sampler.sample(model, seed=0).first.energy == pytest.approx(0.5)


def test_fractions_are_numbers(sampler):
    from fractions import Fraction

    model = dimod.DictBQM({"a": Fraction(1, 2)}, {("a", "b"): Fraction(-2)}, Fraction(0), "BINARY")
    assert sampler.sample(model, seed=0).first.energy == pytest.approx(-1.5)


@pytest.mark.parametrize(
    ("where", "bad"),
    [
        *itertools.product(["linear", "quadratic"], [float("nan"), float("inf"), "much", 1j, None]),
        ("offset", float("nan")),
        ("offset", float("-inf")),
    ],
)
def test_a_bias_that_is_no_finite_number_is_named(sampler, where, bad):
    model = dimod.DictBQM({"good": 1.0, "bad": 1.0}, {("good", "bad"): 1.0}, 0.0, "BINARY")
    if where == "offset":
        model.offset = bad
    elif where == "linear":
        model.set_linear("bad", bad)
    else:
        model.set_quadratic("good", "bad", bad)
    with pytest.raises(SamplerError, match="offset" if where == "offset" else f"{where} bias of .*'bad'"):
        sampler.sample(model)


@pytest.mark.parametrize("value", [0, -1, 1.5, "two", True])
def test_reads_that_are_no_positive_whole_number_are_refused(sampler, value):
    with pytest.raises(SamplerError, match="num_reads"):
        sampler.sample(random_model(3, 0), num_reads=value)


@pytest.mark.parametrize("value", [-1, 0.5, "x"])
def test_a_seed_that_is_no_whole_number_is_refused(sampler, value):
    with pytest.raises(SamplerError, match="seed"):
        sampler.sample(random_model(3, 0), seed=value)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "soon"])
def test_a_time_limit_that_is_not_positive_is_refused(timed, value):
    with pytest.raises(SamplerError, match="time_limit"):
        timed.sample(random_model(3, 0), time_limit=value)


def test_a_time_limit_that_is_over_at_once_still_gives_every_read(timed):
    model = random_model(6, 3, "SPIN")
    found = timed.sample(model, num_reads=4, seed=0, time_limit=1e-9)
    dimod.testing.assert_response_energies(found, model)
    assert len(found) == 4


def test_something_else_than_a_model_is_refused(sampler):
    with pytest.raises(SamplerError, match="BinaryQuadraticModel"):
        sampler.sample({("a", "b"): 1.0})


def test_an_unknown_argument_is_warned_of(sampler):
    with pytest.warns(dimod.exceptions.SamplerUnknownArgWarning, match="colour"):
        sampler.sample(random_model(3, 0), colour="red")


def test_initial_states_of_other_variables_are_refused(started):
    with pytest.raises(SamplerError, match="initial_states"):
        started.sample(random_model(3, 0), initial_states={"elsewhere": 1})


def test_no_read_ends_above_its_initial_state(started):
    model = random_model(8, 4)
    ground = dimod.ExactSolver().sample(model).first
    found = started.sample(model, initial_states=ground.sample, seed=0)
    assert len(found) == 1
    assert found.first.energy == pytest.approx(ground.energy)
