"""All solvers against brute force on tiny problems."""

import itertools

import numpy as np
import pytest
from chain import chain
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coldpress.errors import BudgetError, ColdpressError, PlanError
from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.solvers import SOLVERS, exact, solve
from coldpress.solvers._answer import Progress
from coldpress.solvers._begin import brought_inside
from coldpress.solvers._state import flatten

PROVING = ("auto", "exact", "relaxation")
COMPARATORS = ("genetic", "reinforce", "tpe")


def tiny(seed: int, *, convex: bool = True, forbid: bool = False, limits: int = 1, separable: bool = False) -> Problem:
    rng = np.random.default_rng(seed)
    sizes = [int(size) for size in rng.integers(1, 5, size=rng.integers(2, 6))]
    n, units = sum(sizes), len(sizes)
    G = rng.normal(size=(n, n if convex else 3)) * rng.exponential(size=(n, 1))
    K = G @ G.T if convex else G @ rng.normal(size=(3, n))
    K = (K + K.T) / 2
    if separable:
        K = np.diag(np.diag(K))
    costs = {}
    for name in ("macs", "size")[: max(limits, 1)]:
        factors = []
        for _ in range(int(rng.integers(1, 4))):
            scope = rng.permutation(units)[: rng.integers(1, min(units, 3) + 1)]
            table = rng.uniform(0.1, 1.0, size=[sizes[u] for u in scope])
            if forbid:
                table[rng.uniform(size=table.shape) < 0.2] = np.inf
                table[(0,) * table.ndim] = 1.0
            factors.append(Factor(tuple(int(u) for u in scope), table))
        costs[name] = Cost(name, tuple(factors), constant=0.1)
    quantities = dict.fromkeys(list(costs)[:limits], f"{rng.integers(40, 100)}%")
    return Problem.from_arrays(sizes, Energy(K, rng.normal(size=n), 0.5), costs, quantities)


def brute_force(problem: Problem) -> float:
    choices = itertools.product(*(range(size) for size in problem.sizes))
    return min((problem.energy_of(c) for c in choices if problem.feasible(c)), default=np.inf)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    convex=st.booleans(),
    forbid=st.booleans(),
    limits=st.integers(0, 2),
    separable=st.booleans(),
)
@example(seed=53053, convex=False, forbid=True, limits=2, separable=False)
@example(seed=32498, convex=True, forbid=True, limits=2, separable=False)  # five plans are allowed; annealing met none
def test_every_solver_against_brute_force(seed, convex, forbid, limits, separable):
    problem = tiny(seed, convex=convex, forbid=forbid, limits=limits, separable=separable)
    best = brute_force(problem)
    tolerance = 1e-6 * (1.0 + abs(best))
    for name in SOLVERS:
        seconds = 0.05 if name in COMPARATORS else 5.0
        if not np.isfinite(best):
            with pytest.raises(BudgetError):
                solve(problem, name, time_limit=seconds)
            continue
        answer = solve(problem, name, time_limit=seconds)
        assert problem.feasible(answer.choice)
        assert answer.feasible
        assert answer.energy == pytest.approx(problem.energy_of(answer.choice))
        assert answer.energy >= best - tolerance
        assert np.array_equal(problem.choice(answer.plan), answer.choice)
        if name in PROVING:
            assert answer.lower_bound is not None
            assert answer.lower_bound <= best + tolerance
        if name in ("exact", "auto"):
            assert answer.energy <= best + (tolerance if name == "exact" else 2e-3 * abs(best) + tolerance)


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_same_seed_gives_the_same_plan(name):
    problem = next(p for seed in range(100) if np.isfinite(brute_force(p := tiny(seed, limits=2))))
    first, second = (solve(problem, name, seed=7, time_limit=30.0) for _ in range(2))
    assert first.plan == second.plan


@pytest.mark.parametrize("name", sorted(SOLVERS))
def test_a_budget_that_cannot_be_met_says_what_can(name):
    tables = {"size": Cost("size", (Factor((0, 1), np.array([[4.0, 3.0], [3.0, 2.0]])),))}
    problem = Problem.from_arrays([2, 2], Energy(np.eye(4), np.zeros(4)), tables, {"size": "40%"})
    with pytest.raises(BudgetError, match=r"size=40%.*smallest size that can be reached is 2, 50.0%"):
        solve(problem, name)


def test_limits_that_exclude_each_other_are_reported_together():
    costs = {
        "size": Cost("size", (Factor((0,), np.array([2.0, 1.0, 3.0])),)),
        "macs": Cost("macs", (Factor((0,), np.array([2.0, 3.0, 1.0])),)),
    }
    problem = Problem.from_arrays([3], Energy(np.eye(3), np.zeros(3)), costs, {"size": "60%", "macs": "60%"})
    with pytest.raises(BudgetError, match=r"proved: .* all limits together: size <= .* macs <= ") as error:
        solve(problem)
    assert error.value.proved
    with pytest.raises(BudgetError, match=r"whether there is one is unknown") as error:
        solve(problem, "greedy")
    assert not error.value.proved


@pytest.mark.parametrize("seed", range(60))
def test_a_proof_without_a_plan_to_begin_with_is_true(seed):
    problem = tiny(seed, convex=bool(seed % 2), forbid=True, limits=2)
    best, progress = brute_force(problem), Progress(problem, 20.0)
    exact.prove(progress, flatten(problem), 1e-7)
    assert progress.impossible == (not np.isfinite(best))
    assert progress.energy == (pytest.approx(best) if np.isfinite(best) else np.inf)


@pytest.mark.parametrize("name", sorted(SOLVERS))
@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), "1"])
def test_no_time_is_refused(name, limit):
    with pytest.raises(PlanError, match="give seconds, more than 0"):
        solve(tiny(0), name, time_limit=limit)


@pytest.mark.parametrize("name", [*COMPARATORS, "random"])
def test_a_comparator_counts_the_plans_that_it_evaluated(name):
    answer = solve(chain(8), name, time_limit=60.0, **(dict([learning(name)[0]]) if name != "random" else {}))
    batch = {"genetic": 64, "reinforce": 32, "tpe": 1, "random": 200}[name]
    assert len(answer.evaluations) == len(answer.trace) + 1
    assert list(answer.evaluations) == sorted(answer.evaluations)
    assert 1 <= answer.evaluations[-1] <= batch * (2 if name == "genetic" else 1)
    assert solve(chain(8), "greedy").evaluations == ()


@pytest.mark.parametrize("seed", range(5))
def test_separable_problems_are_solved_to_the_end(seed):
    rng = np.random.default_rng(seed)
    sizes = [6] * 6
    harms = np.sort(rng.exponential(size=(6, 6)), axis=1)
    factors = tuple(Factor((u,), np.sort(rng.uniform(size=6))[::-1]) for u in range(6))
    energy = Energy(np.diag(harms.ravel()), np.zeros(36))
    problem = Problem.from_arrays(sizes, energy, {"size": Cost("size", factors, 0.3)}, {"size": "50%"})
    for name in ("exact", "separable"):
        answer = solve(problem, name)
        assert answer.gap == 0.0
        assert answer.energy == pytest.approx(brute_force(problem))


def test_separable_ignores_couplings_and_is_judged_by_them():
    # Alone the second option of each unit is free; together they cost 10.
    quadratic = np.zeros((4, 4))
    quadratic[1, 3] = quadratic[3, 1] = 10.0
    problem = Problem.from_arrays([2, 2], Energy(quadratic, np.array([1.0, 0.0, 1.0, 0.0])), {}, {})
    answer = solve(problem, "separable")
    assert answer.choice.tolist() == [1, 1]
    assert answer.energy == pytest.approx(10.0)
    assert answer.lower_bound is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_what_is_brought_inside_is_allowed_and_inside(seed):
    problem = tiny(seed, forbid=True, limits=2)
    choice = np.random.default_rng(seed).integers(problem.sizes)
    before = choice.copy()
    if brought_inside(problem, flatten(problem), choice):
        assert problem.feasible(choice)
        assert np.array_equal(choice, before) or not problem.feasible(before)
    else:
        assert not problem.feasible(before)


@pytest.mark.parametrize("name", COMPARATORS)
def test_a_comparator_learns_from_its_plans(name):
    problem = chain(8)
    few, many = (SOLVERS[name](problem, time_limit=60.0, **{rounds: n}) for rounds, n in learning(name))
    best = solve(problem, "exact").energy
    assert many.energy - best < 0.3 * (few.energy - best)


def learning(name):
    """The argument that says how long a comparator learns: hardly, and for a while."""
    rounds = {"genetic": "num_generations", "reinforce": "num_updates", "tpe": "n_trials"}[name]
    return (rounds, 1), (rounds, 150)


def test_an_unknown_solver_names_the_near_one():
    with pytest.raises(ColdpressError, match="did you mean 'anneal'"):
        solve(tiny(0), "aneal")


def test_the_trace_only_improves():
    answer = solve(tiny(11, limits=0), "exact")
    energies = [energy for _, energy, _ in answer.trace]
    bounds = [bound for _, _, bound in answer.trace if bound is not None]
    assert energies == sorted(energies, reverse=True)
    assert bounds == sorted(bounds)
    assert answer.gap == pytest.approx(0.0, abs=1e-6)
