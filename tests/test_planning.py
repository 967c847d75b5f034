"""Plans leave a margin of a latency that is measured, and only there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coldpress.cost.profiles import PROFILES, ModelledTable
from coldpress.cost.table import LatencyTable
from coldpress.errors import BudgetError
from coldpress.planning import MARGIN, solved_with_margin
from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.solvers import solve

SECONDS = (1.0, 0.5, 0.495, 0.1)
"""Of one unit's options; those that take less do more harm."""


def problem(limit: float, fewest: int = len(SECONDS)) -> Problem:
    seconds = np.array(SECONDS[:fewest])
    cost = Cost("latency", (Factor((0,), seconds),))
    energy = Energy(np.zeros((fewest, fewest)), np.arange(fewest, dtype=float))
    return Problem.from_arrays((fewest,), energy, {"latency": cost}, {"latency": limit})


def evidence(table: Any) -> Any:
    return SimpleNamespace(prices=SimpleNamespace(table=table), solve=lambda p: solve(p, "auto", time_limit=5.0))


@pytest.fixture
def measured(tmp_path: Path) -> Any:
    return evidence(LatencyTable(tmp_path))


def test_a_measured_limit_keeps_a_margin(measured):
    answer, solved = solved_with_margin(measured, problem(0.5))
    assert list(answer.choice) == [3]
    assert solved.limits["latency"] == pytest.approx(0.5 * (1 - MARGIN))
    assert list(solved_with_margin(measured, problem(0.52))[0].choice) == [1]


def test_the_whole_limit_is_used_where_nothing_fits_without(measured):
    answer, solved = solved_with_margin(measured, problem(0.5, fewest=2))
    assert list(answer.choice) == [1]
    assert solved.limits["latency"] == 0.5
    with pytest.raises(BudgetError):
        solved_with_margin(measured, problem(0.4, fewest=2))


def test_a_modelled_latency_has_no_noise_to_leave_a_margin_for():
    modelled = evidence(ModelledTable(next(iter(PROFILES.values()))))
    answer, solved = solved_with_margin(modelled, problem(0.5))
    assert list(answer.choice) == [1]
    assert solved.limits["latency"] == 0.5
