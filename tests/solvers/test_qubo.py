"""Any sampler as a solver: what its reads say is checked, decoded, brought inside, and counted."""

import itertools

import dimod
import numpy as np
import pytest
from chain import chain
from dwave.samplers import RandomSampler, SteepestDescentSolver
from hypothesis import given, settings
from hypothesis import strategies as st
from test_solvers import brute_force, tiny

from coldpress.errors import BudgetError, ColdpressError, HardwareError, SamplerError
from coldpress.problem import Energy, Problem
from coldpress.qubo import variable
from coldpress.samplers.kinds import MOCK
from coldpress.samplers.named import make
from coldpress.solvers import solve
from coldpress.solvers.qubo import nearest_choice


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), forbid=st.booleans(), limits=st.integers(0, 2))
def test_reads_of_any_quality_give_a_plan_inside_the_budget(seed, forbid, limits):
    problem = tiny(seed, forbid=forbid, limits=limits)
    best = brute_force(problem)
    if not np.isfinite(best):
        with pytest.raises(BudgetError):
            solve(problem, RandomSampler(), num_reads=20)
        return
    answer = solve(problem, RandomSampler(), num_reads=20, seed=seed)
    assert problem.feasible(answer.choice)
    assert answer.energy == pytest.approx(problem.energy_of(answer.choice))
    assert answer.energy >= best - 1e-9 * (1 + abs(best))
    assert answer.lower_bound is None
    facts = answer.facts
    fates = ("reads_inside_the_budget", "reads_repaired", "reads_lost")
    assert sum(facts[name] for name in fates) == facts["reads"] == 20
    assert facts["reads_inside_the_budget"] <= facts["reads_with_one_option_each"]
    alone = facts["energy_without_repair"]
    assert (alone is None) == (facts["reads_inside_the_budget"] == 0)
    assert alone is None or alone >= answer.energy
    assert ("no read" in answer.solver) == (alone is None)
    assert ("could be brought inside" in answer.solver) == (facts["reads_lost"] == 20)


def test_all_samples_hold_the_optimum():
    factor = np.random.default_rng(0).normal(size=(8, 8))
    problem = Problem.from_arrays([3, 2, 3], Energy(factor @ factor.T, factor[0]))
    answer = solve(problem, dimod.ExactSolver())
    assert answer.energy == pytest.approx(brute_force(problem))
    assert (answer.facts["reads"], answer.facts["reads_inside_the_budget"]) == (2**8, 3 * 2 * 3)


def test_a_solver_of_constrained_models_is_given_the_constraints():
    problem = chain(3, 3)
    answer = solve(problem, dimod.ExactCQMSolver())
    assert answer.energy == pytest.approx(brute_force(problem))
    assert answer.facts["reads_inside_the_budget"] > 0
    assert answer.solver == "ExactCQMSolver (ExactCQMSolver, classical)"


@pytest.mark.parametrize("name", ["sa", "path-integral", "steepest-descent", "bifurcation"])
def test_a_sampler_by_name_solves_a_small_chain(name):
    problem = chain(3, 3)
    answer = solve(problem, name, seed=1)
    assert problem.feasible(answer.choice)
    assert answer.energy == pytest.approx(brute_force(problem), rel=0.2)
    assert answer.solver.startswith(f"{name} (")
    again = solve(problem, name, seed=1)
    np.testing.assert_array_equal(again.choice, answer.choice)


@pytest.mark.parametrize("name", ["qaoa", "exhaustive"])
def test_a_sampler_with_a_limit_solves_blocks(name):
    problem = chain(3, 3)
    answer = solve(problem, name, seed=0, num_reads=10, time_limit=20.0)
    assert problem.feasible(answer.choice)
    assert answer.facts["variables"] > 24
    assert answer.facts["blocks_solved"] > 1
    assert "block decomposition" in answer.solver


@pytest.mark.parametrize("name", ["mock-pegasus:4", "mock-zephyr:3"])
def test_a_mock_qpu_solves_a_small_chain_and_says_what_it_is(name):
    problem = chain(3, 3)
    answer = solve(problem, name, seed=0, num_reads=50)
    assert problem.feasible(answer.choice)
    assert answer.energy == pytest.approx(brute_force(problem), rel=0.5)
    assert MOCK in answer.solver
    assert MOCK in answer.facts["sampler"]
    assert answer.facts["longest_chain"] > 1
    assert 0 <= answer.facts["chain_break_fraction"] <= 1
    np.testing.assert_array_equal(solve(problem, name, seed=0, num_reads=50).choice, answer.choice)


def test_what_is_too_large_for_a_qpu_goes_in_blocks_only_where_that_is_asked_for():
    problem = chain(3, 3)
    with pytest.raises(HardwareError, match=r"do not fit.*max_variables=10"):
        solve(problem, "mock-pegasus:2")
    answer = solve(problem, "mock-pegasus:2", max_variables=10, num_reads=10)
    assert problem.feasible(answer.choice)
    assert MOCK in answer.solver
    assert answer.facts["blocks_solved"] > 1
    assert answer.facts["qubits"] <= 40


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_whole_reads_are_taken_as_they_are_and_broken_units_choose_among_their_ones(seed):
    problem = tiny(seed)
    rng = np.random.default_rng(seed)
    bits = rng.random(int(problem.offsets[-1])) < 0.5
    choice = nearest_choice(problem, bits)
    for u, (a, b) in enumerate(itertools.pairwise(problem.offsets)):
        assert 0 <= choice[u] < b - a
        assert bits[a + choice[u]] or not bits[a:b].any()
    whole = problem.vector(choice) > 0
    np.testing.assert_array_equal(nearest_choice(problem, whole), choice)


class Lies(SteepestDescentSolver):
    """Says that its energies are lower than they are."""

    def sample(self, bqm, **parameters):
        found = super().sample(bqm, **parameters)
        return dimod.SampleSet.from_samples(found, found.vartype, energy=found.record.energy - 1.0)


class Forgets:
    """A solver of constrained models that leaves a variable out."""

    def sample_cqm(self, cqm):
        found = dimod.ExactCQMSolver().sample_cqm(cqm)
        return dimod.drop_variables(found, [found.variables[0]])


def test_a_sampler_that_is_wrong_is_refused():
    problem = chain(2, 3)
    with pytest.raises(SamplerError, match="Lies says that read 0 has energy"):
        solve(problem, Lies())
    with pytest.raises(SamplerError, match="Forgets returned other variables"):
        solve(problem, Forgets())
    with pytest.raises(SamplerError, match="object is no sampler"):
        solve(problem, object())
    with pytest.raises(ColdpressError, match="did you mean 'mock-pegasus'"):
        solve(problem, "mock-pegasos")


def test_kept_reads_give_the_same_answer_again(tmp_path):
    problem = chain(2, 3)
    answer = solve(problem, make("mock-pegasus:3", tmp_path), seed=3, num_reads=30)
    again = solve(problem, f"reads:{answer.facts['reads_file']}")
    assert again.energy == answer.energy
    assert MOCK in again.solver
    with pytest.raises(SamplerError, match="another model"):
        solve(chain(2, 3, seed=1), f"reads:{answer.facts['reads_file']}")


def test_the_names_of_variables_are_those_of_the_options():
    problem = chain(2, 3)
    model = problem.to_bqm()
    assert {variable(problem, u, o) for u in range(2) for o in range(3)} <= set(model.variables)
