"""Problems from files, ours and others': the solution is that of the model in the file."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import dimod
import numpy as np
import pytest
from dimod.serialization import coo

from coldpress.commands.embed import run as embed
from coldpress.commands.solve import run
from coldpress.errors import BudgetError, PlanError
from coldpress.instances import FAMILIES
from coldpress.interchange import of_bqm, of_cqm, read, write
from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.samplers.kinds import MOCK
from coldpress.samplers.named import LOCAL
from coldpress.solvers import solve


def random_bqm(vartype: str, seed: int = 0, size: int = 6) -> dimod.BinaryQuadraticModel:
    rng = np.random.default_rng(seed)
    linear = {f"v{i}": float(rng.normal()) for i in range(size)}
    quadratic = {(f"v{i}", f"v{j}"): float(rng.normal()) for i, j in itertools.combinations(range(size), 2)}
    return dimod.BinaryQuadraticModel(linear, quadratic, 0.5, vartype)


def mixed_cqm(seed: int = 0) -> dimod.ConstrainedQuadraticModel:
    """Binary and spin variables, a discrete constraint, and inequalities both ways."""
    rng = np.random.default_rng(seed)
    x = {name: dimod.Binary(name) for name in "abcde"}
    spin = dimod.Spin("s")
    model = dimod.ConstrainedQuadraticModel()
    pairs = itertools.combinations([*x.values(), spin], 2)
    model.set_objective(dimod.quicksum(float(rng.normal()) * p * q for p, q in pairs) + 2.0 * spin - 1.0)
    model.add_discrete(["a", "b", "c"], label="one of three")
    model.add_constraint(2 * x["a"] + x["d"] + 3 * x["e"] + spin <= 3, label="light")
    model.add_constraint(x["d"] - 2 * x["b"] + x["e"] >= -1, label="balanced")
    return model


def tiny_problem() -> Problem:
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(6, 6))
    costs = {"size": Cost("size", (Factor((0, 1), rng.uniform(1, 2, size=(3, 3))),), 0.1)}
    return Problem.from_arrays([3, 3], Energy(factor @ factor.T, rng.normal(size=6), 0.2), costs, {"size": "95%"})


@pytest.mark.parametrize("vartype", ["BINARY", "SPIN"])
@pytest.mark.parametrize("seed", range(3))
def test_a_foreign_bqm_is_solved_to_its_ground_state(vartype: str, seed: int) -> None:
    model = random_bqm(vartype, seed)
    given = of_bqm(model)
    answer = solve(given.problem, "exact")
    assert given.sample is not None
    sample = given.sample(answer.choice)
    best = dimod.ExactSolver().sample(model).first.energy
    assert model.energy(sample) == pytest.approx(best)
    assert answer.energy == pytest.approx(best)
    assert answer.lower_bound <= best + 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_a_foreign_cqm_is_solved_within_its_constraints(seed: int) -> None:
    model = mixed_cqm(seed)
    given = of_cqm(model)
    answer = solve(given.problem, "exact")
    assert given.sample is not None
    sample = given.sample(answer.choice)
    assert model.check_feasible(sample)
    best = dimod.ExactCQMSolver().sample_cqm(model).filter(lambda row: row.is_feasible).first.energy
    assert answer.energy == pytest.approx(best)


def test_every_form_is_read_back(tmp_path: Path) -> None:
    model = random_bqm("SPIN")
    (tmp_path / "a.bqm").write_bytes(model.to_file().read())
    (tmp_path / "a.json").write_text(json.dumps(model.to_serializable()))
    numbered, _ = model.relabel_variables_as_integers(inplace=False)
    (tmp_path / "a.coo").write_text(coo.dumps(numbered, vartype_header=True))
    (tmp_path / "a.cqm").write_bytes(mixed_cqm().to_file().read())
    best = dimod.ExactSolver().sample(model).first.energy
    for name, offset in (("a.bqm", 0.0), ("a.json", 0.0), ("a.coo", 0.5)):  # COO text has no place for the offset
        energy = solve(read(tmp_path / name).problem, "exact").energy
        assert energy == pytest.approx(best - offset, abs=1e-5)
    assert read(tmp_path / "a.cqm").kind == "cqm"


def test_our_problems_survive_every_form(tmp_path: Path) -> None:
    problem = tiny_problem()
    best = solve(problem, "exact").energy
    for name in ("p.json", "p.cqm"):
        write(problem, tmp_path / name)
        given = read(tmp_path / name)
        answer = solve(given.problem, "exact")
        assert answer.energy == pytest.approx(best)
        assert answer.lower_bound == pytest.approx(best)
    assert given.feasible(given.sample(answer.choice))
    write(problem, tmp_path / "p.bqm")
    write(problem, tmp_path / "p.coo")
    penalised = read(tmp_path / "p.bqm").problem
    assert solve(penalised, "anneal", time_limit=5.0).energy >= best - 0.1 * abs(best) - 1e-6
    assert read(tmp_path / "p.coo").model.is_almost_equal(problem.to_bqm(), places=12)
    with pytest.raises(PlanError, match="end it in"):
        write(problem, tmp_path / "p.txt")


@pytest.mark.parametrize("name", ["minilm", "mobilenetv2"])
def test_a_stored_problem_survives_as_a_constrained_model(tmp_path: Path, name: str) -> None:
    problem = FAMILIES[name].make(0)
    write(problem, tmp_path / "p.cqm")
    assert any("/" in text for texts in problem.labels for text in texts)
    given = read(tmp_path / "p.cqm")
    rng, seen = np.random.default_rng(0), set[bool]()
    names = [[f"{unit}={label}" for label in texts] for unit, texts in zip(problem.names, problem.labels)]
    order = [given.problem.labels.index(tuple(texts)) for texts in names]
    for share in np.linspace(0.0, 0.6, 30):
        choice = np.where(rng.random(len(problem.sizes)) < share, rng.integers(problem.sizes), 0)
        taken = {texts[o] for texts, o in zip(names, choice)}
        ours = np.zeros(len(given.problem.sizes), np.int64)
        for unit, labels in enumerate(given.problem.labels):  # joint cases are named by their parts
            ours[unit] = next((o for o, text in enumerate(labels) if set(text.split("&")) <= taken), 0)
        assert (ours[order] == choice).all()
        assert given.problem.energy_of(ours) == pytest.approx(problem.energy_of(choice))
        seen.add(problem.feasible(choice))
        assert given.problem.feasible(ours) == given.feasible(given.sample(ours)) == problem.feasible(choice)
    assert False in seen


def test_costs_of_three_units_are_read_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = rng.uniform(1, 2, size=(3, 2, 3))
    table[2, 1, 2] = np.inf
    factor = rng.normal(size=(8, 8))
    costs = {"macs": Cost("macs", (Factor((0, 1, 2), table),), 0.1)}
    problem = Problem.from_arrays([3, 2, 3], Energy(factor @ factor.T, np.zeros(8)), costs, {"macs": "95%"})
    write(problem, tmp_path / "p.cqm")
    given = read(tmp_path / "p.cqm")
    answer = solve(given.problem, "exact")
    assert answer.energy == pytest.approx(solve(problem, "exact").energy)
    assert answer.gap < 1e-6
    assert given.feasible(given.sample(answer.choice))


@pytest.mark.parametrize("seed", range(3))
def test_equalities_and_products_in_constraints_are_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = [dimod.Binary(f"x{i}") for i in range(5)]
    spin = dimod.Spin("s")
    model = dimod.ConstrainedQuadraticModel()
    every = itertools.combinations([*x, spin], 2)
    model.set_objective(dimod.quicksum(float(rng.normal()) * a * b for a, b in every))
    model.add_constraint(x[0] + x[1] + x[2] + 2 * spin == 0, label="even")
    model.add_constraint(x[1] * x[3] + 2 * x[4] * spin - x[0] <= 1, label="product")
    given = of_cqm(model)
    answer = solve(given.problem, "exact")
    best = dimod.ExactCQMSolver().sample_cqm(model).filter(lambda row: row.is_feasible).first.energy
    assert answer.energy == pytest.approx(best)
    assert answer.lower_bound == pytest.approx(best, abs=1e-5)
    assert model.check_feasible(given.sample(answer.choice))


def test_a_wide_equality_is_two_limits() -> None:
    model = dimod.ConstrainedQuadraticModel()
    x = [dimod.Binary(i) for i in range(16)]
    model.set_objective(dimod.quicksum((i + 1) * v for i, v in enumerate(x)))
    model.add_constraint(dimod.quicksum(x) == 3, label="three")
    given = of_cqm(model)
    assert len(given.problem.limits) == 2
    answer = solve(given.problem, "exact")
    assert (answer.energy, given.feasible(given.sample(answer.choice))) == (pytest.approx(6.0), True)


def test_many_small_constraints_forbid() -> None:
    ring = [(i, (i + 1) % 30) for i in range(30)]
    model = dimod.ConstrainedQuadraticModel()
    x = [dimod.Binary(i) for i in range(30)]
    model.set_objective(-dimod.quicksum(x))
    for a, b in ring:
        model.add_constraint(x[a] + x[b] <= 1, label=f"{a}/{b}")
    given = of_cqm(model)
    assert not given.problem.limits
    assert solve(given.problem, "exact").energy == pytest.approx(-15.0)


def test_a_limit_may_be_called_as_what_is_forbidden_is() -> None:
    x = list(dimod.Binaries([f"x{i}" for i in range(4)]))
    model = dimod.ConstrainedQuadraticModel()
    model.set_objective(-dimod.quicksum(x))
    model.add_constraint(dimod.quicksum(x) <= 1, label="forbidden")
    model.add_constraint(x[0] + x[1] == 1, label="one")
    answer = solve(of_cqm(model).problem, "exact")
    assert answer.energy == pytest.approx(-1.0)


def test_a_problem_out_of_a_constrained_model_is_read_back() -> None:
    problem = of_cqm(mixed_cqm()).problem
    again = Problem.from_json(problem.to_json())
    assert again.limits == problem.limits
    assert again.budget == problem.budget


def test_a_bqm_too_large_for_solvers_is_given_to_a_sampler(tmp_path: Path) -> None:
    size = 5_001
    (tmp_path / "a.coo").write_text("# vartype=SPIN\n" + "".join(f"{i} {i + 1} -1\n" for i in range(size - 1)))
    run(tmp_path / "a.coo", "steepest-descent", 5.0, 0, tmp_path / "answer.json", False, num_reads=1)
    facts = json.loads((tmp_path / "answer.json").read_text())
    assert facts["variables"] == size == len(facts["sample"])
    with pytest.raises(PlanError, match="give larger ones without constraints to a sampler"):
        run(tmp_path / "a.coo", "greedy", 5.0, 0, None, False)


def test_the_command_writes_a_checked_answer(tmp_path: Path) -> None:
    model = mixed_cqm()
    (tmp_path / "a.cqm").write_bytes(model.to_file().read())
    run(tmp_path / "a.cqm", "exact", 5.0, 0, tmp_path / "answer.json", False)
    facts = json.loads((tmp_path / "answer.json").read_text())
    sample = dict(facts["sample"])
    assert model.check_feasible(sample)
    assert facts["energy"] == pytest.approx(model.objective.energy(sample))
    assert facts["lower_bound"] <= facts["energy"] + 1e-9
    assert facts["trace"]


@pytest.mark.parametrize("name", sorted(LOCAL))
def test_a_sampler_finds_the_ground_state_of_a_small_bqm(tmp_path: Path, name: str) -> None:
    model = random_bqm("SPIN")
    (tmp_path / "a.bqm").write_bytes(model.to_file().read())
    run(tmp_path / "a.bqm", name, 2.0, 0, tmp_path / "answer.json", False)
    facts = json.loads((tmp_path / "answer.json").read_text())
    assert facts["energy"] == pytest.approx(model.energy(dict(facts["sample"])))
    if name != "qaoa":
        assert facts["energy"] == pytest.approx(dimod.ExactSolver().sample(model).first.energy)
    assert name in facts["solver"]
    assert facts["sampler"]["reads"] >= 1


@pytest.mark.parametrize("name", ["sa", "exhaustive"])
def test_a_sampler_solves_a_foreign_cqm_through_penalties(tmp_path: Path, name: str) -> None:
    model = mixed_cqm()
    (tmp_path / "a.cqm").write_bytes(model.to_file().read())
    run(tmp_path / "a.cqm", name, 20.0, 0, tmp_path / "answer.json", False, num_reads=50)
    facts = json.loads((tmp_path / "answer.json").read_text())
    sample = dict(facts["sample"])
    assert model.check_feasible(sample)
    assert facts["energy"] == pytest.approx(model.objective.energy(sample))
    assert "classical" in facts["solver"]


def test_reads_of_a_mock_are_labelled_and_kept_beside_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write(tiny_problem(), tmp_path / "a.json")
    run(tmp_path / "a.json", "mock-pegasus:4", 20.0, 0, tmp_path / "answer.json", False, num_reads=20)
    facts = json.loads((tmp_path / "answer.json").read_text())
    assert MOCK in facts["solver"]
    assert MOCK in " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert facts["sampler"]["chain_break_method"] == "majority_vote"
    (file,) = (tmp_path / "answer.reads").iterdir()
    assert facts["sampler"]["reads_file"] == str(file)
    run(tmp_path / "a.json", f"reads:{file}", 20.0, 0, tmp_path / "again.json", False)
    assert json.loads((tmp_path / "again.json").read_text())["energy"] == facts["energy"]


def test_settings_of_samplers_are_refused_with_other_solvers(tmp_path: Path) -> None:
    for settings in ({"num_reads": 5}, {"max_variables": 5}):
        with pytest.raises(PlanError, match="give 1 or more, and a sampler"):
            run(tmp_path / "a.json", "exact", 1.0, 0, None, False, **settings)
    with pytest.raises(PlanError, match="num_reads is 0"):
        run(tmp_path / "a.json", "sa", 1.0, 0, None, False, num_reads=0)


@pytest.mark.parametrize("topology", ["pegasus", "zephyr"])
def test_an_estimate_of_a_file_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture, topology: str) -> None:
    write(tiny_problem(), tmp_path / "a.json")
    embed(tmp_path / "a.json", topology, 4, 100, 5.0, 0, True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["fits"]
    assert facts["variables"] == len(tiny_problem().to_bqm().variables)
    assert facts["longest_chain"] >= 1
    embed(tmp_path / "a.json", topology, 4, 100, 5.0, 0, False)
    shown = capsys.readouterr().out
    assert f"{facts['qubits']:,}" in shown
    assert ("no public figures" in shown) == (topology == "zephyr")
    if topology == "pegasus":
        embed(tmp_path / "a.json", topology, 2, 100, 1.0, 0, False)
        assert "--max-variables" in capsys.readouterr().out


def test_what_cannot_be_taken_is_named(tmp_path: Path) -> None:
    x, y, i = dimod.Binary("x"), dimod.Binary("y"), dimod.Integer("i", upper_bound=3)
    model = dimod.ConstrainedQuadraticModel()
    model.set_objective(-5 * x - 5 * y)
    model.add_constraint(x + y <= 1, label="c", weight=1.0)
    with pytest.raises(PlanError, match="constraint 'c' is soft"):
        of_cqm(model)
    model = dimod.ConstrainedQuadraticModel()
    model.set_objective(x + i)
    with pytest.raises(PlanError, match="variable 'i' is INTEGER"):
        of_cqm(model)
    model = dimod.ConstrainedQuadraticModel()
    model.set_objective(x + y)
    model.add_constraint(x + y >= 3, label="too much")
    with pytest.raises(BudgetError, match="'too much' cannot be met"):
        of_cqm(model)
    with pytest.raises(PlanError, match=r"linear bias of 'a' is .*nan"):
        of_bqm(dimod.BinaryQuadraticModel({"a": float("nan")}, {}, 0.0, "BINARY"))
    with pytest.raises(PlanError, match="no variable"):
        of_bqm(dimod.BinaryQuadraticModel("BINARY"))


@pytest.mark.parametrize("content", [b"", b"DIMODBQM broken", b"{}", b"{not json", b"\xff\xfe", b"1 2 x"])
def test_a_damaged_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(PlanError):
        read(tmp_path / "a")
    with pytest.raises(PlanError, match="cannot be read"):
        read(tmp_path / "none")


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_no_time_is_refused(tmp_path: Path, limit: float) -> None:
    with pytest.raises(PlanError, match="give seconds, more than 0"):
        run(tmp_path / "a.cqm", "exact", limit, 0, None, False)


def odd_cycle() -> dimod.ConstrainedQuadraticModel:
    """x + y <= 1, y + z <= 1, x + z <= 1, and x + y + z >= 2: each alone can be met, all together cannot."""
    x, y, z = (dimod.Binary(name) for name in "xyz")
    model = dimod.ConstrainedQuadraticModel()
    model.set_objective(x * y - z)
    for label, pair in (("a", x + y), ("b", y + z), ("c", x + z)):
        model.add_constraint(pair <= 1, label=label)
    model.add_constraint(x + y + z >= 2, label="d")
    return model


@pytest.mark.parametrize(("solver", "proved"), [("exact", True), ("milp", True), ("auto", True), ("anneal", False)])
def test_that_nothing_fits_is_proved_or_said_unknown_in_the_file_s_numbers(solver: str, proved: bool) -> None:
    words = "proved: no plan meets" if proved else "whether there is one is unknown"
    with pytest.raises(BudgetError, match=words) as error:
        solve(of_cqm(odd_cycle()).problem, solver, time_limit=5.0)
    assert error.value.proved == proved
    assert "a <= 1 (" in str(error.value)
    assert "d >= 2 (" in str(error.value)


def test_what_a_sampler_of_bqms_knows_is_written(tmp_path: Path) -> None:
    model = random_bqm("SPIN")
    (tmp_path / "a.bqm").write_bytes(model.to_file().read())
    run(tmp_path / "a.bqm", "exhaustive", 5.0, 0, tmp_path / "exact.json", False)
    facts = json.loads((tmp_path / "exact.json").read_text())
    assert facts["lower_bound"] == facts["energy"] == facts["trace"][-1][2]
    assert facts["gap"] == 0.0
    run(tmp_path / "a.bqm", "exhaustive", 5.0, 0, tmp_path / "blocks.json", False, max_variables=2)
    facts = json.loads((tmp_path / "blocks.json").read_text())
    assert facts["lower_bound"] is None
    energies = [energy for _, energy, _ in facts["trace"]]
    assert len(energies) > 1
    assert energies == sorted(energies, reverse=True)
    assert energies[-1] == pytest.approx(facts["energy"])


def test_discrete_constraints_that_share_a_variable_are_named_with_it() -> None:
    model = dimod.ConstrainedQuadraticModel()
    model.set_objective(dimod.quicksum(dimod.Binary(name) for name in "abcde"))
    model.add_discrete(["a", "b"], label="first")
    model.add_discrete(["d", "e"], label="apart")
    model.add_discrete(["c", "b"], label="second", check_overlaps=False)
    with pytest.raises(PlanError, match="constraints 'first' and 'second' share the variable 'b'"):
        of_cqm(model)
