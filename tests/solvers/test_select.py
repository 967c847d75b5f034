"""Single units chosen: never better than brute force, a bound never above it, budgets and groups kept."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from coldpress.errors import BudgetError, PlanError
from coldpress.selection import Selection
from coldpress.solvers._core import search_core
from coldpress.solvers._interior import relax
from coldpress.solvers._rounding import descend, round_down
from coldpress.solvers.select import select

KINDS = ("size", "budgets", "groups", "fixed groups", "all", "no factor", "no own harm")


def problem(kind: str, seed: int, n: int = 12, rank: int = 3) -> Selection:
    rng = np.random.default_rng(seed)
    linear, factor = 0.3 * rng.exponential(size=n), rng.normal(size=(n, rank))
    gains = rng.uniform(0.5, 2.0, (2, n))
    needs = np.array([0.3, 0.4]) * gains.sum(axis=1)
    few = n // 12
    groups = np.arange(n) % 3
    if kind == "size":
        return Selection.of_size(linear, factor, n // 2)
    if kind == "no factor":
        return Selection.of_size(linear, np.zeros((n, 0)), n // 2)
    if kind == "no own harm":
        return Selection.of_size(np.zeros(n), factor, n // 2)
    if kind == "budgets":
        return Selection(linear, factor, gains, needs)
    if kind == "groups":
        return Selection(
            linear, factor, gains[:1], needs[:1], groups, few * np.array([0, 1, 2]), few * np.array([1, 3, 3])
        )
    if kind == "fixed groups":
        return Selection(linear, factor, groups=groups, least=few * np.array([0, 2, 3]), most=few * np.array([0, 2, 3]))
    # some units gain by going: what to do where nothing asks for it
    return Selection(linear - 0.5, factor, gains, needs, groups, few * np.array([0, 1, 0]), few * np.array([3, 4, 2]))


def optimum_of(given: Selection) -> float:
    """The least energy of all feasible selections."""
    every = (np.arange(2 ** len(given))[:, None] >> np.arange(len(given))) & 1
    counts = np.stack([every[:, given.groups == g].sum(axis=1) for g in range(len(given.most))], axis=1)
    fits = ((counts >= given.least) & (counts <= given.most)).all(axis=1)
    fits &= (every @ given.gains.T >= given.needs * (1 - 1e-9)).all(axis=1)
    energies = every @ given.linear + 0.5 * np.square(every @ given.factor).sum(axis=1)
    return float(energies[fits].min())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_lies_between_bound_and_energy(kind: str, seed: int) -> None:
    given = problem(kind, seed)
    optimum = optimum_of(given)
    found = select(given, seed=seed, time_limit=5.0, runs=3)
    assert given.feasible(found.chosen)
    assert found.energy == pytest.approx(given.energy_of(found.chosen))
    assert found.lower_bound <= optimum + 1e-12
    assert found.energy >= optimum - 1e-9
    if kind not in ("groups", "all"):  # there single moves and exchanges may end in a corner
        assert found.energy <= optimum + 0.02 * abs(optimum) + 1e-9
    energies = [energy for _, energy in found.trace]
    assert energies == sorted(energies, reverse=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_point_of_the_relaxation_proves_its_bound(kind: str) -> None:
    given = problem(kind, 5)
    optimum = optimum_of(given)
    free = given.undecided()
    part, rest = given.among(free, ~free & (given.most > 0)[given.groups])
    early, late = relax(part, deadline=0.0), relax(part)
    assert early.bound + rest <= optimum
    assert early.bound <= late.bound <= optimum - rest + 1e-12
    assert late.converged
    assert not early.converged
    value = part.energy_of(late.x)
    assert value - late.bound <= 1e-6 * (abs(value) + 1.0)
    assert (part.slack(late.x) >= -1e-5).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_linear_term_bounds_no_worse_than_a_diagonal(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, diagonal, factor = 40, rng.exponential(size=40), rng.normal(size=(40, 4))
    linear = relax(Selection.of_size(diagonal / 2, factor, n // 2)).bound
    quadratic = relax(Selection.of_size(np.zeros(n), np.hstack([factor, np.diag(diagonal**0.5)]), n // 2)).bound
    assert quadratic < linear


@pytest.mark.parametrize("kind", KINDS)
def test_descent_and_core_keep_limits_and_never_rise(kind: str) -> None:
    given = problem(kind, 3, n=60, rank=5)
    free = given.undecided()
    part, _ = given.among(free, ~free & (given.most > 0)[given.groups])
    relaxed = relax(part)
    start = round_down(part, relaxed)
    assert start is not None
    assert part.feasible(start)
    annealed, moments = search_core(part, relaxed, start, seed=0, runs=2, deadline=np.inf)
    assert part.feasible(annealed)
    assert part.energy_of(annealed) <= part.energy_of(start)
    assert moments[-1][1] == pytest.approx(part.energy_of(annealed))
    before = start.copy()
    down = descend(part, start)
    assert (start == before).all()
    assert part.feasible(down)
    assert part.energy_of(down) <= part.energy_of(start)
    assert (descend(part, down) == down).all()


def test_no_exchange_betters_where_descent_ends() -> None:
    given = problem("size", 7, n=30)
    start = np.arange(30) < 15
    end = descend(given, start)
    energy = given.energy_of(end)
    for i, j in itertools.product(np.flatnonzero(end), np.flatnonzero(~end)):
        other = end.copy()
        other[i], other[j] = False, True
        assert given.energy_of(other) >= energy - 1e-9


def test_same_seed_same_selection() -> None:
    given = problem("budgets", 1, n=80, rank=6)
    first, second = (select(given, seed=4, time_limit=60.0, runs=2) for _ in range(2))
    assert (first.chosen == second.chosen).all()
    assert first.lower_bound == second.lower_bound


def test_budgets_beyond_all_units_are_refused() -> None:
    given = problem("budgets", 0)
    with pytest.raises(BudgetError, match="budget 1 asks to free"):
        select(Selection(given.linear, given.factor, given.gains, given.needs * np.array([1, 3])))
    with pytest.raises(BudgetError, match="at most"):
        select(Selection(given.linear, given.factor, given.gains, given.needs, most=np.array([2])))


@pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
def test_no_time_is_refused(limit: float) -> None:
    with pytest.raises(PlanError, match="give seconds, more than 0"):
        select(problem("budgets", 0), time_limit=limit)


def test_nothing_to_decide_is_decided() -> None:
    given = Selection.of_size([1.0, 2.0], [[1.0], [1.0]], 2)
    found = select(given)
    assert found.chosen.all()
    assert found.gap == 0.0
    assert found.energy == pytest.approx(5.0)
