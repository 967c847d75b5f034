"""Problems evaluate exactly, refuse what does not fit, and export without change."""

import itertools

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldpress.elimination import Elimination, minimise_sum
from coldpress.errors import BudgetError, PlanError
from coldpress.plan import Plan
from coldpress.problem import Cost, Energy, Factor, Problem

SIZES = (2, 3, 2)


def make(seed: int = 0, scopes: tuple[tuple[int, ...], ...] = ((0, 1), (2,), (2, 0, 1)), limit: str = "70%") -> Problem:
    rng = np.random.default_rng(seed)
    G = rng.normal(size=(7, 7))
    factors = tuple(Factor(scope, rng.uniform(0.1, 1.0, [SIZES[u] for u in scope])) for scope in scopes)
    costs = {"size": Cost("size", factors, constant=0.2)}
    return Problem.from_arrays(SIZES, Energy(G @ G.T, rng.normal(size=7), 0.3), costs, {"size": limit})


def choices():
    return itertools.product(*(range(size) for size in SIZES))


def test_energy_and_cost_equal_their_definition():
    problem = make()
    for choice in choices():
        x = problem.vector(choice)
        K = problem.energy.quadratic
        assert problem.energy_of(choice) == pytest.approx(0.3 + problem.energy.linear @ x + x @ K @ x / 2)
        first, second, third = (factor.table for factor in problem.costs["size"].factors)
        a, b, c = choice
        assert problem.costs_of(choice)["size"] == pytest.approx(0.2 + first[a, b] + second[c] + third[c, a, b])
        assert problem.feasible(choice) == (problem.costs_of(choice)["size"] <= problem.limits["size"] * (1 + 1e-9))


def test_plans_and_choices_are_the_same_thing():
    problem = make()
    for choice in choices():
        plan = problem.plan(choice)
        assert tuple(problem.choice(plan)) == choice
        assert "keep" not in plan.choices.values()
    with pytest.raises(PlanError, match="no option"):
        problem.choice(Plan({"u0": "half"}))


def test_the_smallest_cost_is_exact_here():
    problem = make()
    least = min(problem.costs_of(choice)["size"] for choice in choices())
    assert problem.smallest("size") == pytest.approx((least, least))


def test_json_keeps_everything():
    problem = make()
    problem.costs["size"].factors[0].table[1, 2] = np.inf
    again = Problem.from_json(problem.to_json())
    for choice in choices():
        assert again.energy_of(choice) == problem.energy_of(choice)
        assert again.costs_of(choice) == problem.costs_of(choice)
    assert (again.limits, again.names, again.labels) == (problem.limits, problem.names, problem.labels)
    with pytest.raises(PlanError, match="not a coldpress problem"):
        Problem.from_json("{}")


def test_what_does_not_fit_is_refused():
    energy = Energy(np.eye(7), np.zeros(7))
    with pytest.raises(PlanError, match="symmetric"):
        Energy(np.triu(np.ones((3, 3))), np.zeros(3))
    with pytest.raises(PlanError, match="NaN"):
        Energy(np.full((1, 1), np.nan), np.zeros(1))
    with pytest.raises(PlanError, match="does not fit"):
        Problem.from_arrays(SIZES, energy, {"size": Cost("size", (Factor((0,), np.zeros(3)),))})
    with pytest.raises(PlanError, match="options"):
        Problem.from_arrays((2, 2), energy)
    with pytest.raises(BudgetError, match=r"limits macs.*there are: none"):
        Problem.from_arrays(SIZES, energy, {}, {"macs": 1.0})


def test_convexity_is_recognised():
    assert Energy(np.ones((3, 3)), np.zeros(3)).is_convex
    assert not Energy(1 - 2 * np.eye(3), np.zeros(3)).is_convex


def sample(problem: Problem, choice: tuple[int, ...]) -> dict[str, int]:
    x = problem.vector(choice)
    names = (f"{n}={label}" for n, texts in zip(problem.names, problem.labels) for label in texts)
    return {name: int(value) for name, value in zip(names, x)}


def test_the_constrained_model_has_our_energies_and_constraints():
    problem = make()
    problem.costs["size"].factors[0].table[1, 2] = np.inf
    model = problem.to_cqm()
    for choice in choices():
        values = sample(problem, choice)
        for name in model.variables:
            if name not in values:
                values[name] = int(all(values[part] for part in name.split("&")))
        assert model.objective.energy(values) == pytest.approx(problem.energy_of(choice))
        assert model.check_feasible(values, rtol=0, atol=1e-9) == problem.feasible(choice)


def test_the_penalty_model_has_our_optimum():
    problem = make(3, scopes=((0,), (1,), (2,)), limit="80%")
    best = min((problem.energy_of(c), c) for c in choices() if problem.feasible(c))
    found = dimod.ExactSolver().sample(problem.to_bqm()).first
    chosen = {name for name, value in sample(problem, best[1]).items() if value}
    assert {v for v in found.sample if "=" in v and found.sample[v]} == chosen
    assert found.energy == pytest.approx(best[0], abs=0.05 * abs(best[0]) + 0.5)


@pytest.mark.parametrize("scopes", [((0, 1), (2,), (2, 0, 1)), ((0, 1), (0, 1), (2, 0))])
def test_the_penalty_model_holds_products(scopes: tuple[tuple[int, ...], ...], monkeypatch: pytest.MonkeyPatch):
    problem = make(4, scopes)
    problem.costs["size"].factors[2].table[(1, 0, 2)[: len(scopes[2])]] = np.inf
    model = problem.to_bqm()
    slack = [name for name in model.variables if name.startswith("slack")]
    for choice in choices():
        values = sample(problem, choice)
        for name in model.variables:
            if "&" in name:
                values[name] = int(all(values[part] for part in name.split("&")))
        rest = dimod.BinaryQuadraticModel(model)
        rest.fix_variables({name: values[name] for name in model.variables if name not in slack})
        least = dimod.ExactSolver().sample(rest).first.energy
        if problem.feasible(choice):
            assert least == pytest.approx(problem.energy_of(choice), abs=0.5)
        else:
            assert least > problem.energy_of(choice)
    monkeypatch.setattr("coldpress.qubo.MOST_VARIABLES", 10)
    with pytest.raises(BudgetError, match="to_cqm"):
        make().to_bqm()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_elimination_equals_enumeration_and_split_buckets_stay_below(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, size=5)
    tables = []
    for _ in range(5):
        scope = tuple(int(u) for u in rng.permutation(5)[: rng.integers(0, 4)])
        table = rng.normal(size=[sizes[u] for u in scope])
        tables.append((scope, np.where(rng.uniform(size=table.shape) < 0.1, np.inf, table)))
    values = [
        sum(float(table[tuple(choice[u] for u in scope)]) for scope, table in tables)
        for choice in itertools.product(*(range(size) for size in sizes))
    ]
    bound, choice = minimise_sum(sizes, tables)
    assert bound == pytest.approx(min(values))
    attained = sum(float(table[tuple(choice[u] for u in scope)]) for scope, table in tables)
    assert attained == pytest.approx(min(values))
    split, _ = minimise_sum(sizes, tables, max_entries=4)
    assert split <= min(values) + 1e-9


def test_elimination_wants_one_table_per_scope():
    with pytest.raises(ValueError, match="tables for"):
        Elimination([2], [(0,)]).minimise([])
