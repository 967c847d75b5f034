"""On problems shaped like a network, solvers find and prove what they promise."""

import numpy as np
import pytest
from chain import chain, chain_with_bits

from coldpress.solvers import relative_gap, solve
from coldpress.solvers._convex import Convex, shift, spreads


@pytest.mark.parametrize("seed", range(3))
def test_the_gap_is_proven_and_annealing_is_as_good(seed):
    problem = chain(14, seed=seed)
    proven = solve(problem, "auto", time_limit=20.0)
    assert proven.gap is not None
    assert proven.gap <= 0.01
    annealed = solve(problem, "anneal", time_limit=20.0)
    assert relative_gap(annealed.energy, proven.energy) <= 0.005
    assert annealed.energy >= proven.lower_bound - 1e-9
    rounded = solve(problem, "relaxation", time_limit=20.0)
    assert rounded.gap is not None
    assert rounded.gap <= 0.05
    assert solve(problem, "greedy").energy <= solve(problem, "random").energy


def test_the_gap_is_proven_where_most_options_harm_far_more_than_the_best_plan():
    problem = chain_with_bits(30, "90%")
    proven = solve(problem, "exact", time_limit=20.0)
    assert proven.gap is not None
    assert proven.gap <= 0.01
    assert proven.energy < 1e-3 * np.diag(problem.energy.quadratic).max()


def test_shifting_keeps_every_plan_and_raises_what_lies_between():
    problem = chain(5)
    plain = Convex.of(problem)
    middle = plain.vector(np.zeros(5, dtype=np.int64))
    for block in plain.blocks:
        middle[block] = 1.0 / 6.0
    shifted = shift(plain, spreads(plain, middle))
    for option in range(6):
        choice = [option, 0, 5 - option, 1, option]
        y = plain.vector(np.array(choice))
        assert plain.value(y) == pytest.approx(problem.energy_of(choice))
        assert shifted.value(y) == pytest.approx(problem.energy_of(choice))
    assert shifted.value(middle) > plain.value(middle)


def test_a_short_time_limit_still_gives_a_plan_and_a_bound():
    problem = chain(30, options=8)
    answer = solve(problem, "auto", time_limit=0.05)
    assert problem.feasible(answer.choice)
    assert answer.lower_bound is not None
    assert answer.lower_bound <= answer.energy
