"""The integer programme: equal to the energy on plans, below it elsewhere, and right about tiny problems."""

import numpy as np
import pytest
from chain import chain
from hypothesis import given, settings
from hypothesis import strategies as st
from test_solvers import brute_force, tiny

from coldpress.errors import BudgetError
from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.solvers import solve
from coldpress.solvers._convex import Convex, shift, spreads
from coldpress.solvers._outer import Outer
from coldpress.solvers._restrict import Part
from coldpress.solvers._state import merge_blocks
from coldpress.solvers.milp import suits


def programme(problem: Problem, directions: int) -> tuple[Convex, Outer]:
    plain = Convex.of(problem)
    middle = plain.vector(np.zeros(len(problem.sizes), dtype=np.int64))
    for block in plain.blocks:
        middle[block] = 1.0 / (1 + block.stop - block.start)
    energy = shift(plain, spreads(plain, middle))
    blocks, room = merge_blocks(problem)
    return energy, Outer(energy, blocks, room, problem.sizes, scale=1.0, directions=directions)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), convex=st.booleans(), forbid=st.booleans(), limits=st.integers(0, 2))
def test_milp_against_brute_force(seed, convex, forbid, limits):
    problem = tiny(seed, convex=convex, forbid=forbid, limits=limits)
    best = brute_force(problem)
    if not np.isfinite(best):
        with pytest.raises(BudgetError):
            solve(problem, "milp", time_limit=5.0)
        return
    answer = solve(problem, "milp", time_limit=5.0)
    tolerance = 1e-6 * (1.0 + abs(best))
    assert problem.feasible(answer.choice)
    assert best - tolerance <= answer.energy <= best + 1e-4 * abs(best) + tolerance
    assert answer.lower_bound <= best + tolerance


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), directions=st.integers(0, 6), forbid=st.booleans())
def test_every_bound_of_the_programme_is_below_the_best_plan(seed, directions, forbid):
    problem = tiny(seed, forbid=forbid, limits=1)
    best = brute_force(problem)
    if not np.isfinite(best):
        return
    _, outer = programme(problem, directions)
    for _ in range(30):
        linear = outer.relax(5.0)
        assert linear.bound <= best + 1e-5 * (1.0 + abs(best))
        if not outer.touch(linear.y, linear.held):
            break
    outer.demand_integers()
    bound, found = outer.search(5.0, 0.0, None)
    assert linear.bound - 1e-5 * (1.0 + abs(best)) <= bound <= best + 1e-5 * (1.0 + abs(best))
    assert found


@pytest.mark.parametrize("directions", [0, 3, 40])
def test_tangents_touch_the_energy_where_they_are_added(directions):
    problem = chain(4, options=4, budget="100%")
    energy, outer = programme(problem, directions)
    choice = np.array([1, 3, 0, 2])
    y = energy.vector(choice)
    assert np.array_equal(outer.options(y), problem.vector(choice))
    outer.touch(y)
    held = np.array([0.5 * w**2 for w in y @ outer._squares] + [0.5 * y @ outer._rest @ y])
    assert outer.touch(y, held) == 0


def test_a_part_has_the_energies_and_costs_of_the_whole():
    problem = chain(4, options=4)
    barred = [np.where(np.arange(4) == unit, np.inf, 0.0) for unit in range(4)]
    part = Part.all_of(problem).without(barred)
    part = part.without([np.array([0.0, 0.0, np.inf])] * 4)
    assert part.problem.sizes == (2, 2, 2, 2)
    for options in ([0, 0, 1, 1], [1, 0, 1, 0]):
        choice = part.whole(np.array(options))
        assert np.array_equal(part.own(choice), options)
        assert part.problem.energy_of(options) == pytest.approx(problem.energy_of(choice))
        assert part.problem.costs_of(options) == pytest.approx(problem.costs_of(choice))
        assert (
            np.flatnonzero(problem.vector(choice)).tolist()
            == part.places[np.flatnonzero(part.problem.vector(options))].tolist()
        )
    assert part.problem.limits == pytest.approx(problem.limits)
    assert part.own(np.array([0, 0, 0, 0])) is None


def test_the_same_seed_gives_the_same_plan():
    problem = chain(6)
    first, second = (solve(problem, "milp", seed=3, time_limit=60.0) for _ in range(2))
    assert first.plan == second.plan
    assert first.gap <= 1e-4


def test_exact_agrees_with_milp_where_it_begins_with_it():
    rng = np.random.default_rng(0)
    G = np.repeat(rng.normal(size=(13, 40)), 8, axis=0) * np.tile(np.arange(8) / 7, 13)[:, None]
    G += 0.1 * np.tile(np.arange(8) / 7, 13)[:, None] * rng.normal(size=(104, 40))
    factors = tuple(Factor((u,), 1.0 - np.arange(8) / 8) for u in range(13))
    problem = Problem.from_arrays(
        [8] * 13, Energy(G @ G.T, np.zeros(104)), {"size": Cost("size", factors)}, {"size": "50%"}
    )
    assert suits(problem)
    exact, milp = (solve(problem, name, time_limit=6.0) for name in ("exact", "milp"))
    best = min(exact.energy, milp.energy)
    assert max(exact.lower_bound, milp.lower_bound) <= best
    assert exact.gap <= 0.05
