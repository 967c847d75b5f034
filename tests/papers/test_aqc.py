"""The published QUBO of filters and bits by many solvers, on a network small enough for brute force."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset
from typer.testing import CliRunner

import coldpress as cp
from coldpress.cli import app
from coldpress.commands.reproduce_aqc import HEADS, all_cells, markdown
from coldpress.errors import BudgetError, ColdpressError, HardwareError, SamplerError, SpaceError, TaskError
from coldpress.papers.aqc import AQC
from coldpress.papers.aqc_table import OURS, PUBLISHED, SCALES, SOLVERS, UNIFORM, Ranked, Row, best_bound, gap
from coldpress.papers.contenders import contender
from coldpress.papers.decoded import DECODED, REFITTED, TRAINED
from tiny import chain

QUICK = replace(SCALES["tiny"], seconds=0.4, steps=4, images=16, plans=6, refit=32, lessons=32)
LOCAL = tuple(name for name in SOLVERS if name != "mock-pegasus")


def parts(*sizes: int) -> tuple[torch.nn.Module, list[TensorDataset]]:
    """A tiny network, and data of which it is always right."""
    net = chain()
    x = torch.randn(sum(sizes), 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = net(x)
        net.head.bias[1] += (logits[:, 0] - logits[:, 1]).median()
        data = TensorDataset(x, net(x).argmax(1))
    bounds = list(itertools.accumulate(sizes, initial=0))
    return net, [TensorDataset(*data[a:b]) for a, b in itertools.pairwise(bounds)]


@pytest.fixture(scope="module")
def task() -> cp.Task:
    net, (train, validation, test) = parts(120, 40, 40)
    return cp.Task(net, train.tensors[0][:1], train=train, validation=validation, test=test)


@pytest.fixture(scope="module")
def rows(task: cp.Task) -> list[Row | Ranked]:
    return list(AQC(task, 0.5, QUICK, LOCAL).stages())


def solved(rows: list[Row | Ranked]) -> list[Row]:
    return [row for row in rows if isinstance(row, Row) and row.runs]


def least_loss(experiment: AQC, rate: float) -> float:
    """By trying everything."""
    space = experiment.space
    samples = (space.sample(x) for x in itertools.product((0, 1), repeat=len(space.variables)))
    allowed = (s for s in samples if not any(all(s[v] for v in names) for names in space.keep_one))
    return min(experiment.published.energy(s) for s in allowed if space.reduction(s) >= rate - 1e-12)


def test_every_solver_meets_the_rate_and_none_is_below_brute_force(task: cp.Task, rows: list[Row | Ranked]) -> None:
    experiment = AQC(task, 0.5, QUICK, LOCAL)
    least = least_loss(experiment, 0.5)
    found = solved(rows)
    assert [row.name for row in found] == [*((PUBLISHED, name) for name in LOCAL), (OURS, "tabu")]
    for row in found:
        sample = experiment.space.sample(map(int, row.sample))
        assert row.reduction == pytest.approx(experiment.reduction.energy(sample))
        assert row.reduction >= 0.5 - 1e-12
        assert row.loss == pytest.approx(experiment.published.energy(sample))
        assert row.loss >= least - 1e-12
        assert row.raw is None or row.minimised <= row.raw + 1e-12
        assert row.seconds > 0


def test_the_exact_solver_with_time_finds_what_brute_force_finds(task: cp.Task) -> None:
    experiment = AQC(task, 0.5, replace(QUICK, seconds=4.0, steps=8, epochs=0), ("exact",))
    row, least = experiment.solved(PUBLISHED, "exact"), least_loss(experiment, 0.5)
    assert row.loss == pytest.approx(least)
    assert row.bound <= least + 1e-12
    assert gap(row, best_bound([row])) == pytest.approx((row.loss - row.bound) / row.loss)


def test_rows_are_of_real_files_by_stage(task: cp.Task, rows: list[Row | Ranked]) -> None:
    original, uniform = rows[:2]
    assert original.judged["as it is"].accuracy == 1.0
    assert uniform.name == ("", UNIFORM)
    assert uniform.reduction == 0.5
    for row in [uniform, *solved(rows)]:
        assert list(row.judged) == [DECODED, REFITTED, TRAINED]
        assert all(found.loaded_equal for found in row.judged.values())
    levels = {row.name: row.judged[DECODED].level_bytes for row in [uniform, *solved(rows)]}
    weights = sum(layer.weights for layer in AQC(task, 0.5, QUICK, LOCAL).space.layers)
    assert max(levels.values()) <= 0.5 * weights + 3  # half of a byte each, and padding of three layers


def test_rank_correlations_come_last_and_stay_as_they_are(task: cp.Task, rows: list[Row | Ranked]) -> None:
    published, ours = rows[-2:]
    assert [published.energy, ours.energy] == [PUBLISHED, OURS]
    assert all(-1 <= value <= 1 for found in (published, ours) for value in (found.rising, found.equal))
    assert ours.rising > 0.5


def test_what_is_known_is_not_computed_again(
    task: cp.Task, rows: list[Row | Ranked], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = [Row.read(json.loads(json.dumps(asdict(row)))) if isinstance(row, Row) else row for row in rows]
    experiment = AQC(task, 0.5, QUICK, LOCAL, known=known)
    for name in ("original", "uniform", "solved", "ranked"):
        monkeypatch.setattr(experiment, name, None)
    assert [row.name for row in solved(list(experiment.stages()))] == [row.name for row in solved(rows)]


def test_one_rank_correlation_of_two_is_not_all(task: cp.Task, rows: list[Row | Ranked]) -> None:
    found = list(AQC(task, 0.5, QUICK, LOCAL, known=rows[:-1]).stages())
    assert found == rows


def test_what_lacks_its_extra_gets_a_row_that_says_so(task: cp.Task, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise HardwareError("the extra is missing")

    monkeypatch.setattr("coldpress.papers.contenders.check_solver", missing)
    row = AQC(task, 0.5, QUICK, ("mock-pegasus",)).solved(PUBLISHED, "mock-pegasus")
    assert row.note == "skipped: the extra is missing"
    assert not row.judged
    assert not row.runs


def test_a_mock_is_called_one(task: cp.Task) -> None:
    pytest.importorskip("dwave.system")
    row = AQC(task, 0.5, replace(QUICK, epochs=0), ("mock-pegasus:4",)).solved(PUBLISHED, "mock-pegasus:4")
    assert "simulated on a mock, not quantum" in row.note
    assert row.reduction >= 0.5
    assert 0.0 <= row.chain_breaks <= 1.0
    assert row.read_energies is not None
    cells = dict(zip(HEADS, all_cells([row])[0]))
    assert cells["chain breaks"].endswith("%")
    assert " to " in cells["reads, 25 to 75 %"]


def test_contenders_use_their_time_and_repeat_themselves(task: cp.Task) -> None:
    model = AQC(task, 0.5, QUICK, LOCAL).published
    for name in ("sa", "qaoa", "genetic"):
        sampler = contender(name)
        assert set(sampler.parameters) == {"seed", "time_limit"}
        assert sampler.sample(model, seed=1, time_limit=0.2).first.energy <= 1e-9  # nothing goes: no loss
    with pytest.raises(SamplerError, match="paid for"):
        contender("dwave-qpu")


def test_mistakes_are_refused_at_once(task: cp.Task) -> None:
    with pytest.raises(BudgetError, match=r"cannot be reached: .* it is 0\.\d+"):
        AQC(task, 0.99, QUICK, LOCAL)
    with pytest.raises(TaskError, match="between 0 and 1"):
        AQC(task, 1.5, QUICK, LOCAL)
    with pytest.raises(TaskError, match="each once"):
        AQC(task, 0.5, QUICK, ("sa", "sa"))
    with pytest.raises(TaskError, match="code is 'gray'; choose cut or binary"):
        AQC(task, 0.5, QUICK, LOCAL, code="gray")
    with pytest.raises(ColdpressError, match="unknown solver 'tabou'"):
        AQC(task, 0.5, QUICK, ("tabou",))
    with pytest.raises(TaskError, match="seconds are 0"):
        replace(QUICK, seconds=0.0)
    net, (train, test) = parts(60, 40)
    with pytest.raises(TaskError, match="train, validation and test"):
        AQC(cp.Task(net, train=train, validation=test), 0.5, QUICK, LOCAL)
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 2))
    with pytest.raises(SpaceError, match="no filter of this network can go"):
        AQC(cp.Task(flat, train=train, test=test), 0.5, QUICK, LOCAL)


def test_a_rate_beyond_uniform_bits_leaves_their_row_out(task: cp.Task) -> None:
    row = AQC(task, 0.8, QUICK, LOCAL).uniform()
    assert row.note.startswith("skipped: a reduction of 0.8 cannot be reached by bits alone")


def test_the_published_code_takes_bits_in_whole_powers_of_two(task: cp.Task) -> None:
    experiment = AQC(task, 0.3, QUICK, ("tabu",), code="binary")
    row = experiment.solved(PUBLISHED, "tabu")
    space = experiment.space
    assert space.steps == (1, 2)
    sample = space.sample(map(int, row.sample))
    assert set(space.bits(sample).values()) <= {5, 6, 7, 8}
    assert row.loss == pytest.approx(least_loss(experiment, 0.3), rel=0.25)
    assert row.reduction is not None
    assert row.reduction >= 0.3


def test_the_table_has_a_line_for_each_row(rows: list[Row | Ranked]) -> None:
    own = [row for row in rows if isinstance(row, Row)]
    assert all(len(line) == len(HEADS) for line in all_cells(own))
    text = markdown(own, [row for row in rows if isinstance(row, Ranked)])
    assert text.count("| published: ") == len(LOCAL)
    assert "curvature: tabu" in text
    assert "100.00 %" in text


def test_the_command_writes_what_it_found_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("coldpress.commands.reproduce_aqc.SCALES", {"tiny": replace(QUICK, epochs=0)})
    model, out = tmp_path / "net.py", tmp_path / "results"
    model.write_text(
        "from torch import nn\ndef net():\n    import torch\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Conv2d(1, 4, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))\n"
    )
    given = ["reproduce", "aqc", "--model", f"{model}:net", "--data", "fashion-mini", "--scale", "tiny"]

    def run(*more: str) -> tuple[int, str]:
        found = CliRunner().invoke(app, [*given, *more, "--out", str(out)])
        return found.exit_code, " ".join(found.output.split())

    code, says = run("--solvers", "tabu")
    assert code == 0, says
    first = json.loads((out / "results.json").read_text())
    assert [row["solver"] for row in first["rows"]] == ["original", UNIFORM, "tabu", "tabu"]
    assert len(first["rank_correlations"]) == 2
    code, says = run("--solvers", "genetic,tabu")
    assert code == 0, says
    second = json.loads((out / "results.json").read_text())
    kept = [row for row in second["rows"] if row["solver"] != "genetic"]
    assert kept == first["rows"]  # the seconds too: nothing was done again
    assert len(second["rows"]) == 5
    assert "published: genetic" in (out / "table.md").read_text()
    for wrong, words in (
        (("--rate", "0.4"), "other settings (rate)"),
        (("--code", "binary"), "other settings (code, which they do not tell)"),
        (("--scale", "x"), "scale is 'x'"),
        (("--solvers", "nobody"), "unknown solver 'nobody'"),
    ):
        code, says = run(*wrong)
        assert code == 2
        assert words in says
    (out / "results.json").unlink()
    assert "holds no results" in run()[1]
