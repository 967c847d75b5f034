"""What a population learns from trials, and how bests are compared and handed on."""

import math

from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution

from coldpress.search.population import Individual, Population, Rules, share
from coldpress.search.solutions import Solution, crowding, dominates, fronts, standing

BIT = CategoricalDistribution([0, 1])
RULES = Rules(population_size=2, rotation=0.3, epsilon=0.01, migration_interval=3)


def bits(number, value, losses, violation=0.0):
    return Solution(number, {"x": value}, {"x": BIT}, losses, violation)


def chance(population, place, name="x", distribution=BIT):
    return population.individuals[place].state(name, distribution).amplitudes[1] ** 2


def test_a_worse_trial_turns_toward_the_best_and_a_better_one_becomes_it():
    begun = Population.start(RULES).learn(bits(0, 1, (1.0,)))
    assert math.isclose(chance(begun, 0), 0.5)
    worse = begun.learn(bits(2, 0, (2.0,)))
    assert chance(worse, 0) > 0.7
    assert math.isclose(chance(worse, 1), 0.5)
    assert begun.learn(bits(2, 1, (2.0,))).individuals[0].states == begun.individuals[0].states
    assert begun.learn(bits(2, 0, (0.5,))).individuals[0].best.number == 2


def test_a_pruned_trial_turns_and_is_never_the_best():
    assert Population.start(RULES).learn(bits(0, 1, None)).individuals[0].best is None
    begun = Population.start(RULES).learn(bits(0, 1, (1.0,)))
    assert chance(begun.learn(bits(2, 0, None)), 0) > 0.7


def test_a_feasible_trial_beats_an_infeasible_one():
    assert dominates(bits(0, 1, (9.0,)), bits(1, 1, (1.0,), violation=0.1))
    assert dominates(bits(0, 1, (9.0,), violation=0.1), bits(1, 1, (1.0,), violation=0.2))
    assert not dominates(bits(0, 1, (1.0,)), bits(1, 1, (1.0,)))
    stopped, infeasible = bits(0, 1, None), bits(1, 0, (1.0,), violation=0.1)
    assert dominates(stopped, infeasible)
    assert not dominates(infeasible, stopped)
    begun = Population.start(RULES).learn(bits(0, 0, (1.0,), 0.1))
    assert begun.learn(bits(2, 1, None)).individuals[0].best.number == 2


def test_bests_are_handed_on_when_the_interval_ends_and_not_before():
    population = Population.start(RULES).learn(bits(0, 1, (1.0,))).learn(bits(1, 0, (5.0,)))
    before = population.learn(bits(4, 1, (1.0,)))
    assert before.individuals[1].best.number == 1
    assert population.learn(bits(6, 1, (1.0,))).individuals[1].best.number == 0


def test_neighbours_of_a_large_population_share_each_generation():
    population = Population.start(Rules(4, 0.3, 0.01, 100))
    for number, loss in enumerate([1.0, 2.0, 4.0, 3.0]):
        population = population.learn(bits(number, 0, (loss,)))
    bests = [one.best.number for one in population.learn(bits(4, 0, (9.0,))).individuals]
    assert bests == [0, 0, 3, 3]


def test_with_two_objectives_the_first_front_is_shared_among_the_rest():
    given_losses = [(1.0, 4.0), (5.0, 5.0), (4.0, 1.0), (9.0, 9.0)]
    group = tuple(Individual(best=bits(n, 0, losses)) for n, losses in enumerate(given_losses))
    bests = [one.best.number for one in share((*group, Individual()))]
    assert bests == [0, 2, 2, 2, 0]


def test_a_parameter_that_the_best_does_not_have_is_left_alone():
    other = Solution(2, {"y": 1}, {"y": BIT}, (9.0,))
    population = Population.start(RULES).learn(bits(0, 1, (1.0,))).learn(other)
    assert math.isclose(chance(population, 0, "y"), 0.5)
    changed = Solution(2, {"x": 0.5}, {"x": FloatDistribution(0.0, 1.0)}, (9.0,))
    assert Population.start(RULES).learn(bits(0, 1, (1.0,))).learn(changed).individuals[0].best.number == 0


losses = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)


@given(losses)
def test_fronts_are_those_of_non_dominated_sorting(values):
    solutions = [bits(n, 0, tuple(map(float, value))) for n, value in enumerate(values)]
    front = fronts(solutions)
    for i, one in enumerate(solutions):
        above = [front[j] for j, other in enumerate(solutions) if dominates(other, one)]
        assert front[i] == (max(above) + 1 if above else 0)
    keys = standing(solutions)
    assert [number for number, _ in keys] == front
    assert all(distance >= 0.0 for distance in crowding(solutions))
