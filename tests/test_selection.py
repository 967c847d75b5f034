"""The problem of single units: energies, budgets and groups by definition; what does not fit is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from coldpress.errors import PlanError
from coldpress.selection import Selection

N = 9


def problem(**changed: Any) -> Selection:
    rng = np.random.default_rng(0)
    given = {"linear": rng.normal(size=N), "factor": rng.normal(size=(N, 3)), "groups": np.arange(N) % 3}
    given |= {"gains": rng.uniform(size=(2, N)), "needs": [1.0, 2.0], "least": [0, 1, 3], "most": [0, 2, 3]}
    return Selection(**(given | changed))


def test_energy_is_that_of_the_dense_matrix() -> None:
    given, rng = problem(), np.random.default_rng(1)
    for x in (rng.uniform(size=N), rng.integers(0, 2, N)):
        dense = given.linear @ x + 0.5 * x @ (given.factor @ given.factor.T) @ x
        assert given.energy_of(x) == pytest.approx(dense)
    assert given.own == pytest.approx(0.5 * np.diag(given.factor @ given.factor.T))


def test_feasible_means_every_need_and_every_group() -> None:
    given, everything = problem(), np.ones(N, bool)
    assert not given.feasible(everything)  # group 0 may lose none
    chosen = np.array([0, 1, 1, 0, 1, 1, 0, 0, 1], bool)
    assert given.counts(chosen).tolist() == [0, 2, 3]
    assert given.feasible(chosen) == bool((given.gains @ chosen >= given.needs).all())
    assert not problem(needs=[1.0, 100.0]).feasible(chosen)
    chosen[1] = chosen[4] = False
    assert not given.feasible(chosen)


def test_the_rest_of_a_problem_has_the_energies_of_the_whole() -> None:
    given, rng = problem(), np.random.default_rng(2)
    assert given.undecided().tolist() == [False, True, False] * 3
    for free in (given.undecided(), np.ones(N, bool)):
        chosen = rng.integers(0, 2, N).astype(bool)
        part, rest = given.among(free, chosen)
        for _ in range(5):
            x = rng.integers(0, 2, int(free.sum())).astype(bool)
            whole = chosen.copy()
            whole[free] = x
            assert part.energy_of(x) + rest == pytest.approx(given.energy_of(whole))
            assert part.slack(x) == pytest.approx(given.slack(whole))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"linear": np.full(N, np.nan)}, "linear has NaN"),
        ({"factor": np.zeros((4, 2))}, "do not fit"),
        ({"factor": np.zeros(N)}, "dimensions"),
        ({"gains": -np.ones((2, N))}, "negative"),
        ({"needs": [1.0]}, "do not fit"),
        ({"groups": np.zeros(2, int)}, "groups has shape"),
        ({"least": [0, 3, 3]}, "group 1 must lose 3 units and may lose 2"),
        ({"most": [3, 3]}, "an entry for each group"),
        ({"linear": ["a"] * N}, "array of numbers"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        problem(**changed)


def test_a_size_beyond_the_units_is_refused() -> None:
    with pytest.raises(PlanError, match="0 to 4"):
        Selection.of_size(np.zeros(4), np.zeros((4, 1)), 5)
