"""Families of instances: the same for a seed everywhere, and bounds that hold."""

import itertools

import dimod
import numpy as np
import pytest

from coldpress.errors import PlanError
from coldpress.instances import (
    FAMILIES,
    CancellingChoice,
    Cardinality,
    CardinalityProblem,
    Chain,
    DenseChoice,
    DenseQubo,
    IndefiniteChoice,
    Joint,
    Stored,
    Widths,
    family,
)
from coldpress.problem import Problem

SEEDED = (
    Widths(4, 3),
    Chain(4, 3),
    Joint(1, 3),
    DenseChoice(4, 3),
    CancellingChoice(4, 3),
    IndefiniteChoice(5, 3),
    DenseQubo(12),
    Cardinality(12, 3),
)
STORED = [known for known in FAMILIES.values() if isinstance(known, Stored)]


def numbers(instance):
    """All that an energy is made of, as one vector."""
    if isinstance(instance, Problem):
        return instance.energy.quadratic.ravel()
    if isinstance(instance, dimod.BinaryQuadraticModel):
        return np.array([*instance.linear.values(), *instance.quadratic.values()])
    return np.concatenate([instance.diagonal, instance.factor.ravel()])


@pytest.mark.parametrize("known", SEEDED, ids=lambda known: known.name)
def test_a_seed_gives_one_instance_and_another_another(known):
    assert np.array_equal(numbers(known.make(3)), numbers(known.make(3)))
    one, other = numbers(known.make(3)), numbers(known.make(4))
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_the_registry_goes_by_the_families_names():
    assert all(name == known.name for name, known in FAMILIES.items())


def test_an_unknown_family_names_the_near_one():
    with pytest.raises(PlanError, match="did you mean 'qubo-500'"):
        family("qubo500")


@pytest.mark.parametrize("known", [f for f in SEEDED if isinstance(f.make(0), Problem)], ids=lambda known: known.name)
def test_budgets_of_choice_problems_bind_and_can_be_met(known):
    problem = known.make(0)
    assert not problem.feasible(np.zeros(len(problem.sizes), int))
    assert all(problem.smallest(quantity)[1] <= limit for quantity, limit in problem.limits.items())


@pytest.mark.parametrize("seed", range(6))
def test_the_bound_of_a_cardinality_problem_is_below_every_choice_and_near_the_relaxed_best(seed):
    problem = Cardinality(12, 3).make(seed)
    states = [np.isin(np.arange(12), chosen) for chosen in itertools.combinations(range(12), problem.cardinality)]
    energies = problem.energies(states)
    bound = problem.lower_bound(iterations=5000)
    assert bound <= energies.min() + 1e-12
    # The mean of all choices is a mixture; so is the best one: a bound of the relaxation lies below neither's energy.
    assert bound > -1e-12
    assert np.isclose(energies[7], problem.diagonal @ states[7] + ((problem.factor.T @ states[7]) ** 2).sum())
    assert problem.least_alone().sum() == problem.cardinality


def test_without_couplings_the_bound_of_a_cardinality_problem_is_the_optimum():
    rng = np.random.default_rng(0)
    problem = CardinalityProblem(rng.exponential(size=9), np.zeros((9, 1)), 4)
    best = problem.energies(problem.least_alone())[0]
    assert problem.lower_bound() == pytest.approx(best)


def test_cardinality_problems_say_what_does_not_fit():
    with pytest.raises(PlanError, match="give 0 to 3"):
        CardinalityProblem(np.ones(3), np.ones((3, 1)), 4)
    with pytest.raises(PlanError, match="do not fit"):
        CardinalityProblem(np.ones(3), np.ones((2, 1)), 1)
    with pytest.raises(PlanError, match="NaN"):
        CardinalityProblem(np.array([1.0, np.nan]), np.ones((2, 1)), 1)
