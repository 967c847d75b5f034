"""Runs are kept as they end, and not made twice."""

import json
from concurrent.futures import BrokenExecutor

import numpy as np
import pytest

from coldpress.commands.benchmark import solvers
from coldpress.contest import Cell, cells, left_out, play, read, refusals, run
from coldpress.contest._cardinality import _selection
from coldpress.contest.attempt import ROUNDING
from coldpress.contest.run import instance_of
from coldpress.errors import PlanError, TaskError
from coldpress.executors import InProcess
from coldpress.instances import FAMILIES, CardinalityProblem
from coldpress.interchange import of_bqm
from coldpress.problem import Problem
from coldpress.solvers.genetic import energies_of

TODO = [Cell("qubo-64", 0, "dwave-descent", seed, 0.02) for seed in range(3)]


class Counting(InProcess):
    def __init__(self):
        self.cells = []

    def submit(self, fn, /, cell):
        self.cells.append(cell)
        return super().submit(fn, cell)


def test_a_run_is_told_as_json_with_a_true_energy():
    facts = json.loads(json.dumps(play(TODO[0])))
    model = instance_of("qubo-64", 0)
    assert facts["energy"] == pytest.approx(
        model.energy({v: int(bit) for v, bit in zip(model.variables, facts["best"])})
    )
    assert facts["trace"][-1][1] == facts["energy"]
    assert facts["reads"] >= 1
    assert facts["solver"] == "dwave-descent"


def test_a_comparator_tells_how_many_plans_it_evaluated():
    facts = play(Cell("widths", 0, "genetic", 0, 0.3))
    assert len(facts["evaluations"]) == len(facts["trace"]) + 1
    assert facts["evaluations"][0] >= 1
    assert play(TODO[0])["evaluations"] == []


@pytest.mark.parametrize("name", [name for name, one in FAMILIES.items() if not name.endswith(("2000", "5000"))])
def test_a_state_has_one_energy_whoever_met_it_in_every_family(name):
    instance, rng = instance_of(name, 0), np.random.default_rng(0)
    if isinstance(instance, Problem):
        plans = rng.integers(instance.sizes, size=(3, len(instance.sizes)))
        pairs = energies_of(instance, plans), [instance.energy_of(plan) for plan in plans]
    elif isinstance(instance, CardinalityProblem):
        chosen = rng.permuted(np.tile(instance.least_alone(), (3, 1)), axis=1)
        own = _selection(instance)
        pairs = instance.energies(chosen), chosen @ own.linear + 0.5 * ((chosen @ own.factor) ** 2).sum(axis=1)
    else:
        bits, problem = rng.integers(0, 2, (3, len(instance.variables))), of_bqm(instance).problem
        pairs = instance.energies((bits, list(instance.variables))), energies_of(problem, bits)
    np.testing.assert_allclose(*pairs, rtol=ROUNDING)


def test_a_contest_within_0_goes_over_a_dask_cluster(tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    settings = {"seeds": 1, "seconds": 0.05, "instances": 1, "within": 0.0}
    with distributed.LocalCluster(1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        address = f"dask:{cluster.scheduler_address}"
        solvers(["qubo-18"], ["exhaustive", "dwave-descent"], settings, address, 1, tmp_path)
    rows = {row["solver"]: row for row in json.loads((tmp_path / "results.json").read_text())["rows"]}
    assert rows["dwave-descent"]["runs"] == 1
    assert rows["exhaustive"]["successes"] + rows["dwave-descent"]["successes"] >= 1
    assert "best energy known of an instance itself" in (tmp_path / "benchmark.html").read_text()


def test_finished_runs_are_not_made_again(tmp_path):
    path, told = tmp_path / "cells.jsonl", []
    first, second = Counting(), Counting()
    found = run(TODO[:2], path, first, lambda done, total: told.append((done, total)))
    again = run(TODO, path, second, lambda done, total: None)
    assert first.cells == TODO[:2]
    assert second.cells == TODO[2:]
    assert again[:2] == found
    assert told[0] == (0, 2)
    assert told[-1] == (2, 2)


def test_a_line_that_was_cut_short_is_run_again(tmp_path):
    path = tmp_path / "cells.jsonl"
    run(TODO[:2], path, InProcess(), lambda done, total: None)
    path.write_text(path.read_text()[:-40])
    executor = Counting()
    run(TODO[:2], path, executor, lambda done, total: None)
    assert executor.cells == [TODO[1]]
    assert set(read(path)) == set(TODO[:2])


def test_other_seconds_are_other_runs(tmp_path):
    path = tmp_path / "cells.jsonl"
    run(TODO[:1], path, InProcess(), lambda done, total: None)
    executor = Counting()
    other = Cell("qubo-64", 0, "dwave-descent", 0, 0.03)
    run([other], path, executor, lambda done, total: None)
    assert executor.cells == [other]


def test_a_stopped_contest_keeps_what_was_done(tmp_path):
    class Stopped(InProcess):
        left = 2

        def submit(self, fn, /, *args):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            return super().submit(fn, *args)

    path = tmp_path / "cells.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(TODO, path, Stopped(), lambda done, total: None)
    assert set(read(path)) == set(TODO[:2])


def test_a_process_that_dies_is_told_and_what_was_done_is_kept(tmp_path):
    class Dying(InProcess):
        def submit(self, fn, /, cell):
            return super().submit(fn if cell.seed == 0 else died, cell)

    path = tmp_path / "cells.jsonl"
    with pytest.raises(TaskError, match="fewer --processes"):
        run(TODO, path, Dying(), lambda done, total: None)
    assert set(read(path)) == {TODO[0]}


def died(cell):
    raise BrokenExecutor


def test_cells_are_those_that_solvers_take():
    found = cells(["qubo-64", "widths"], ["tabu", "sa-on-pegasus"], instances=2, seeds=3, seconds=1.0)
    assert {(cell.family, cell.solver) for cell in found} == {
        ("qubo-64", "tabu"), ("qubo-64", "sa-on-pegasus"), ("widths", "tabu"),
    }  # fmt: skip
    left = left_out(["qubo-64", "widths"], ["tabu", "sa-on-pegasus"])
    assert left == {"widths: sa-on-pegasus": "not made for layer choice, so no chain breaks are measured here"}
    assert len(found) == 3 * 2 * 3
    stored = cells(["resnet20"], ["greedy"], instances=2, seeds=1, seconds=1.0)
    assert len(stored) == 1


def test_mistakes_are_told():
    with pytest.raises(PlanError, match="seeds is 0"):
        cells(["widths"], None, 1, 0, 1.0)
    with pytest.raises(PlanError, match="none of diagonal takes"):
        cells(["qubo-64"], ["diagonal"], 1, 1, 1.0)


def test_what_cannot_be_taken_is_told_and_nothing_breaks(monkeypatch):
    monkeypatch.setattr("coldpress.qubo.MOST_VARIABLES", 10)
    facts = play(Cell("chain", 0, "dwave-descent", 0, 0.05))
    assert "variables" in facts["refused"]
    assert refusals([facts]) == {"chain: dwave-descent": facts["refused"]}
