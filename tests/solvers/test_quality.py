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


def test_a_rising_shift_lowers_no_mixture_and_keeps_every_plan():
    problem, rng = chain_with_bits(6, "80%"), np.random.default_rng(0)
    plain = Convex.of(problem)
    begin = plain.vector(np.zeros(12, dtype=np.int64))
    shifted = shift(plain, spreads(plain, begin, level=1e-4, smoothing=0.5), rising=True)
    assert np.linalg.eigvalsh(shifted.quadratic)[0] >= -1e-9 * np.abs(plain.quadratic).max()
    for _ in range(50):
        choices = rng.integers(0, problem.sizes, (3, 12))
        plans = np.array([plain.vector(choice) for choice in choices])
        assert [shifted.value(y) for y in plans] == pytest.approx([plain.value(y) for y in plans])
        mixture = rng.dirichlet(np.ones(3)) @ plans
        assert shifted.value(mixture) >= plain.value(mixture) - 1e-7 * abs(plain.value(mixture))
    assert shifted.value(mixture) > 1.01 * plain.value(mixture)


@pytest.mark.parametrize("seed", [151, 214, 472])  # of these, rounding made a unit's part indefinite
def test_a_shift_of_what_is_almost_flat_stops_where_rounding_rules(seed):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(30, 30)) * 10 ** rng.uniform(-8, 2, size=(30, 1))
    energy = Convex(factors @ factors.T, rng.normal(size=30), 0.0, np.arange(0, 31, 3))
    shares = [rng.dirichlet(np.full(4, 0.05))[1:] for _ in energy.blocks]
    spread = [np.diag(share) - np.outer(share, share) + 1e-9 * np.eye(3) for share in shares]
    shifted = shift(energy, spread, 4, rising=True)
    assert np.linalg.eigvalsh(shifted.quadratic)[0] >= -1e-9 * np.abs(energy.quadratic).max()
    y = energy.vector(rng.integers(0, 4, 10))
    assert shifted.value(y) == pytest.approx(energy.value(y))


def test_a_short_time_limit_still_gives_a_plan_and_a_bound():
    problem = chain(30, options=8)
    answer = solve(problem, "auto", time_limit=0.05)
    assert problem.feasible(answer.choice)
    assert answer.lower_bound is not None
    assert answer.lower_bound <= answer.energy
