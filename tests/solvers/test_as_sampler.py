"""A solver as a sampler: on small models what brute force finds, and a bound that is none too high."""

from __future__ import annotations

from fractions import Fraction

import dimod
import numpy as np
import pytest

from coldpress.errors import ColdpressError, PlanError, SamplerError
from coldpress.interchange import of_bqm
from coldpress.samplers import ExhaustiveSampler
from coldpress.solvers.as_sampler import SolverSampler


def drawn(seed: int, vartype: str, n: int = 9) -> dimod.BinaryQuadraticModel:
    generator = np.random.default_rng(seed)
    return dimod.BinaryQuadraticModel(np.triu(generator.normal(size=(n, n))), vartype)


@pytest.mark.parametrize("vartype", ["BINARY", "SPIN"])
@pytest.mark.parametrize("name", ["exact", "milp"])
def test_exact_solvers_find_what_brute_force_finds_and_bound_it(name: str, vartype: str) -> None:
    for seed in range(2):
        model = drawn(seed, vartype)
        least = ExhaustiveSampler().sample(model).first.energy
        found = SolverSampler(name).sample(model, seed=0, time_limit=5.0)
        assert found.vartype is model.vartype
        assert found.first.energy == pytest.approx(least)
        assert found.info["lower_bound"] <= least + 1e-9
        assert found.info["lower_bound"] == pytest.approx(least, rel=1e-3)


def test_others_give_states_of_the_model_and_prove_nothing() -> None:
    model = drawn(3, "BINARY")
    least = ExhaustiveSampler().sample(model).first.energy
    for name, options in (("genetic", {"num_generations": 30}), ("reinforce", {"num_updates": 30})):
        found = SolverSampler(name, **options).sample(model, seed=1)
        assert set(found.variables) == set(model.variables)
        assert least - 1e-9 <= found.first.energy <= 0.5 * least
        assert found.info["lower_bound"] is None
        assert found == SolverSampler(name, **options).sample(model, seed=1)


def test_a_model_without_variables_has_no_state() -> None:
    found = SolverSampler("exact").sample(dimod.BinaryQuadraticModel("SPIN"))
    assert len(found) == 0
    assert found.vartype is dimod.SPIN


def test_fractions_are_numbers_and_other_biases_are_named() -> None:
    exact = dimod.DictBQM({"a": Fraction(1, 2)}, {("a", "b"): Fraction(-2)}, Fraction(0), "BINARY")
    assert SolverSampler("exact").sample(exact).first.energy == pytest.approx(-1.5)
    assert of_bqm(exact).problem.energy_of([1, 1]) == pytest.approx(-1.5)
    for bad in (float("nan"), "much", None):
        exact.set_linear("a", bad)
        with pytest.raises(SamplerError, match="linear bias of 'a'"):
            SolverSampler("exact").sample(exact)
        with pytest.raises(PlanError, match="linear bias of 'a'"):
            of_bqm(exact)


def test_what_is_no_solver_is_refused() -> None:
    with pytest.raises(ColdpressError, match="unknown solver 'genetics'"):
        SolverSampler("genetics")
