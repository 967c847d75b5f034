"""Every contestant, on every kind of instance that it takes: what it says is true."""

import dimod
import numpy as np
import pytest

from coldpress.contest import CONTESTANTS, contestant
from coldpress.contest._penalties import decode
from coldpress.errors import PlanError
from coldpress.instances import Cardinality, DenseQubo, Widths
from coldpress.problem import Problem
from coldpress.solvers import solve

TINY = {"qubo": DenseQubo(10).make(0), "choice": Widths(4, 3).make(0), "cardinality": Cardinality(10, 2).make(0)}
PAIRS = [
    (name, kind)
    for name, one in CONTESTANTS.items()
    for kind, instance in TINY.items()
    if one.takes(instance) and name not in ("sa-on-pegasus", "mock-qpu-simulated")
]
SECONDS = 20.0
"""Enough for one call of each on a busy machine; the runs themselves are made to end by what follows."""


def energy_of(instance, best):
    if isinstance(instance, Problem):
        assert instance.feasible(best)
        return instance.energy_of(best)
    if isinstance(instance, dimod.BinaryQuadraticModel):
        return float(instance.energies((best, list(instance.variables)))[0])
    assert best.sum() == instance.cardinality
    return float(instance.energies(best)[0])


def optimum(instance):
    if isinstance(instance, Problem):
        return solve(instance, "exact").energy
    if isinstance(instance, dimod.BinaryQuadraticModel):
        return float(dimod.ExactSolver().sample(instance).first.energy)
    bits = (np.arange(2**10)[:, None] >> np.arange(10)) & 1
    return float(instance.energies(bits[bits.sum(axis=1) == instance.cardinality]).min())


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_the_best_state_has_the_energy_that_is_told(name, kind, monkeypatch):
    instance = TINY[kind]
    monkeypatch.setattr("coldpress.contest._samplers.repeat", once)
    monkeypatch.setattr("coldpress.contest._cardinality.repeat", once)
    monkeypatch.setattr("coldpress.contest._choosers.WITHOUT_END", {})
    attempt = contestant(name).play(instance, 0, SECONDS)
    assert attempt.best is not None
    assert attempt.energy == pytest.approx(energy_of(instance, attempt.best), rel=1e-9)  # what `--within 0` allows
    assert attempt.energy == pytest.approx(min(attempt.energies), rel=1e-9)
    best = optimum(instance)
    assert attempt.energy >= best - 1e-6 * (1 + abs(best))
    if attempt.bound is not None:
        assert attempt.bound <= best + 1e-6 * (1 + abs(best))


def once(attempt, read, first, least, seed):
    """In place of repeating until the time is up."""
    read(first if least >= 1 else 0.05, seed)


def test_every_solver_of_the_library_takes_part():
    from coldpress.solvers import SOLVERS

    assert all(contestant(name).takes(TINY["choice"]) for name in SOLVERS)


def test_the_selection_of_units_meets_the_others_and_proves_a_bound(monkeypatch):
    monkeypatch.setattr("coldpress.contest._cardinality.MANY", 2)
    attempt = contestant("select").play(TINY["cardinality"], 0, SECONDS)
    best = optimum(TINY["cardinality"])
    assert attempt.energy == pytest.approx(best, rel=1e-6)
    assert attempt.bound <= best * (1 + 1e-9)
    assert attempt.trace[-1][1] == attempt.energies[-1]


def test_a_contestant_is_left_out_beyond_a_size_and_says_why():
    assert contestant("low-rank").takes(DenseQubo(100).make(0))
    assert "1,100 variables" in contestant("low-rank").refusal(DenseQubo(1100).make(0))
    assert "up to 500" in contestant("greedy").refusal(DenseQubo(501).make(0))
    assert "2^n amplitudes" in contestant("qaoa-simulated").refusal(Widths(7, 3).make(0))
    assert "choosing so many of n: it would be given 45 quadratic terms" in contestant("tabu").refusal(
        TINY["cardinality"]
    )
    assert "45 quadratic terms" in contestant("milp").refusal(TINY["cardinality"])
    large = DenseQubo(151).make(0)
    assert "no chain breaks are measured" in contestant("sa-on-pegasus").refusal(large)
    assert "no chain breaks are measured" in contestant("sa-on-pegasus").refusal(Widths(40, 4).make(0))
    assert "no chain breaks" not in contestant("sa-on-pegasus").refusal(TINY["choice"])  # the mock tells them


def test_all_that_take_models_meet_on_the_small_family():
    from coldpress.instances import family
    from coldpress.samplers.named import LOCAL
    from coldpress.solvers import SOLVERS

    instance = family("qubo-18").make(0)
    taking = [name for name, one in CONTESTANTS.items() if one.takes(instance)]
    assert {*SOLVERS, "exhaustive", "qaoa-simulated", "blocks", "mock-qpu-simulated", "sa-on-pegasus"} <= set(taking)
    assert sum(name.startswith("dwave-") for name in taking) == 5
    assert len(taking) >= len(SOLVERS) + len(LOCAL)


def test_what_is_simulated_is_called_so_by_name():
    from coldpress.contest.contestants import _TITLES

    for name in CONTESTANTS:
        if "qaoa" in name or "qpu" in name:
            assert name.endswith("simulated")
            assert "simulated" in _TITLES[name]


def test_what_is_exact_is_called_once_and_proves_its_energy():
    for name in ("exhaustive", "dwave-tree-decomposition"):
        attempt = contestant(name).play(TINY["qubo"], 0, SECONDS)
        assert attempt.bound == attempt.energy == pytest.approx(optimum(TINY["qubo"]), rel=1e-5)
        assert attempt.seconds < SECONDS


def test_a_solver_takes_models_of_spins_too():
    spins = dimod.BinaryQuadraticModel({"a": 1.0, "b": 0.5}, {("a", "b"): 2.0}, 0.25, "SPIN")
    attempt = contestant("exact").play(spins, 0, SECONDS)
    assert attempt.energy == pytest.approx(float(dimod.ExactSolver().sample(spins).first.energy))


def test_random_and_bred_choices_keep_their_number():
    instance = Cardinality(60, 4).make(1)
    found = {name: contestant(name).play(instance, 0, 0.3) for name in ("random", "genetic")}
    for attempt in found.values():
        assert attempt.best.sum() == instance.cardinality
        assert attempt.energy == pytest.approx(float(instance.energies(attempt.best)[0]), rel=1e-12)
    assert found["genetic"].energy < found["random"].trace[0][1]


def test_an_unknown_name_names_the_near_one():
    with pytest.raises(PlanError, match="did you mean 'dwave-tabu'"):
        contestant("dwave_tabu")


def test_bits_of_a_penalty_form_are_read_as_options():
    problem = Widths(3, 3).make(0)
    bits = np.array([0, 1, 0, 1, 0, 0, 0, 0, 1])
    choice, clean = decode(problem, bits)
    assert choice.tolist() == [1, 0, 2]
    assert clean
    choice, clean = decode(problem, np.array([0, 1, 1, 0, 0, 0, 0, 0, 1]))
    assert choice.tolist() == [1, 0, 2]
    assert not clean


def test_chains_on_a_graph_are_simulated_and_counted(monkeypatch):
    pytest.importorskip("minorminer")
    pytest.importorskip("dwave.graphs")
    pytest.importorskip("dwave.embedding")
    monkeypatch.setattr("coldpress.contest._embedded.SIZE", 2)
    monkeypatch.setattr("coldpress.contest._embedded.repeat", lambda attempt, read, *_: read(50.0, 1))
    attempt = contestant("sa-on-pegasus").play(TINY["qubo"], 0, SECONDS)
    assert attempt.energy == pytest.approx(energy_of(TINY["qubo"], attempt.best), rel=1e-5)
    assert 0.0 <= attempt.more["chain breaks"] <= 1.0
    assert attempt.more["qubits"] >= 10


def test_the_mock_of_a_qpu_takes_part(monkeypatch):
    pytest.importorskip("dwave.system")
    from coldpress.contest import _samplers
    from coldpress.samplers import named

    monkeypatch.setattr(_samplers, "_mock", lambda: named.make("mock-pegasus:3"))
    monkeypatch.setattr("coldpress.contest._samplers.repeat", once)
    attempt = contestant("mock-qpu-simulated").play(TINY["qubo"], 0, SECONDS)
    assert attempt.energy == pytest.approx(energy_of(TINY["qubo"], attempt.best), rel=1e-5)


def test_what_a_solver_finds_too_late_does_not_count():
    from coldpress.contest import _choosers

    _choosers._compiled("greedy")
    attempt = _choosers.play("greedy", TINY["choice"], 0, 1e-9)
    assert attempt.best is None
    assert attempt.trace == []
    assert attempt.energies == []
