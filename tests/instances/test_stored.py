"""Problems in small files: what is read is what was written, and stays convex."""

from importlib import resources

import numpy as np
import pytest

from coldpress.errors import PlanError
from coldpress.instances import FAMILIES, IndefiniteChoice, Joint, Stored, Widths, stored
from coldpress.problem import Cost, Energy, Factor, Problem

STORED = [known for known in FAMILIES.values() if isinstance(known, Stored)]


def barred() -> Problem:
    """With a forbidden combination, two factors of the same table, and a factor of rank one."""
    table = np.array([[1.0, 0.5], [np.inf, 0.2]])
    cost = Cost("macs", (Factor((0, 1), table), Factor((1, 2), table)), 0.25)
    g = np.arange(6.0)[:, None]
    return Problem.from_arrays([2, 2, 2], Energy(g @ g.T, np.zeros(6)), {"macs": cost}, {"macs": "90%"})


@pytest.mark.parametrize("problem", [barred(), Widths(5, 4).make(1), Joint(1).make(0), IndefiniteChoice(5, 3).make(2)])
def test_what_is_read_is_what_was_written(problem, tmp_path):
    path = stored.write(problem, tmp_path / "one.npz", {"model": "none"})
    found, facts = stored.read(path.read_bytes())
    scale = np.abs(problem.energy.quadratic).max()
    assert facts == {"model": "none"}
    assert np.allclose(found.energy.quadratic, problem.energy.quadratic, rtol=0.0, atol=1e-6 * scale)
    assert found.energy.is_convex == problem.energy.is_convex
    assert (found.names, found.labels, found.limits) == (problem.names, problem.labels, problem.limits)
    rng = np.random.default_rng(0)
    for _ in range(20):
        choice = rng.integers(problem.sizes)
        assert found.costs_of(choice) == problem.costs_of(choice)


def test_an_energy_with_a_linear_part_is_refused(tmp_path):
    problem = Problem.from_arrays([2], Energy(np.eye(2), np.ones(2)))
    with pytest.raises(PlanError, match="interchange"):
        stored.write(problem, tmp_path / "one.npz", {})


@pytest.mark.parametrize("damage", [lambda raw: raw[: len(raw) // 2], lambda raw: b"none", lambda raw: b""])
def test_a_damaged_file_is_refused(damage, tmp_path):
    raw = stored.write(barred(), tmp_path / "one.npz", {}).read_bytes()
    with pytest.raises(PlanError, match="true_problems"):
        stored.read(damage(raw))


def test_a_file_of_a_later_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "FORMAT", 2)
    raw = stored.write(barred(), tmp_path / "one.npz", {}).read_bytes()
    monkeypatch.setattr(stored, "FORMAT", 1)
    with pytest.raises(PlanError, match="reads 1"):
        stored.read(raw)


@pytest.mark.parametrize("known", STORED, ids=lambda known: known.name)
def test_the_problems_of_networks_are_couplings_under_budgets_that_bind(known):
    problem = known.make()
    inside = np.zeros_like(problem.energy.quadratic, dtype=bool)
    for a, b in zip(problem.offsets, problem.offsets[1:]):
        inside[a:b, a:b] = True
    assert problem.energy.is_convex
    assert np.abs(problem.energy.quadratic[~inside]).max() > 0
    assert not problem.feasible(np.zeros(len(problem.sizes), int))
    assert all(problem.smallest(quantity)[1] <= limit for quantity, limit in problem.limits.items())
    assert known.facts()["command"].startswith("python true_problems.py")


def test_the_problems_of_networks_stay_small():
    folder = resources.files("coldpress.instances").joinpath("problems")
    sizes = [len(folder.joinpath(known.file).read_bytes()) for known in STORED]
    assert max(sizes) < 300_000
    assert sum(sizes) < 1_000_000
