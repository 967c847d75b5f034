"""The published search of masks, to the letter and corrected, on a tiny transformer-like classifier."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import coldpress as cp
from coldpress.cli import app
from coldpress.commands.reproduce_edge_pruning import cells, markdown
from coldpress.papers.edge_pruning import AMOUNTS, METHODS, PUBLISHED, SCALES, EdgePruning, masked, prunable

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Net(nn.Module):
    """Three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Linear(12, 40), nn.Linear(40, 40), nn.Linear(40, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))))


@pytest.fixture(scope="module")
def experiment() -> EdgePruning:
    model = Net().eval()
    x = torch.randn(400, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = model(x).argmax(1)
    parts = [torch.utils.data.TensorDataset(x[i:j], labels[i:j]) for i, j in ((0, 250), (250, 320), (320, 400))]
    task = cp.Task(model, x[:1], train=parts[0], validation=parts[1], test=parts[2])
    return EdgePruning(task, replace(SCALES["tiny"], seeds=(0, 1)))


def test_masks_zero_the_smallest_weights_for_a_while() -> None:
    model = Net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with masked(model, {"first": 0.25, "head": 0.1}) as share:
        zero = model.first.weight == 0
        assert int(zero.sum()) == round(0.25 * 480)
        assert before["first.weight"][zero].abs().max() <= before["first.weight"][~zero].abs().min()
        assert share == pytest.approx((120 + 12) / sum(p.numel() for p in model.parameters()))
        assert torch.equal(model.second.weight, before["second.weight"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert prunable(model) == ["first", "second", "head"]


def test_the_published_procedure_is_followed_on_the_data_at_hand(experiment: EdgePruning) -> None:
    teacher, uniform, found = experiment.as_published()
    assert teacher.accuracy == 1.0
    assert teacher.sparsity == 0.0
    assert uniform.sparsity == pytest.approx(0.15 * 2200 / 2283, rel=0.02)
    assert len(experiment.log) == 5
    assert all(set(AMOUNTS) >= set(found.facts["amounts"].values()) for _ in [0])
    best = min(experiment.log, key=lambda entry: entry["fitness"])
    assert found.accuracy == best["accuracy"]
    assert found.megabytes == teacher.megabytes


def test_corrected_searches_have_the_same_evaluations_and_report_test_data_once(experiment: EdgePruning) -> None:
    uniform, *rows = experiment.corrected()
    assert [row.name for row in rows] == [f"{method}, masks" for method in METHODS]
    assert all(len(row.accuracies) == 2 and row.interval is not None for row in rows)
    assert uniform.sparsity == pytest.approx(sum(row.sparsity for row in rows) / len(rows), abs=0.01)
    distilled = experiment.distilled(rows[:1])[0]
    assert distilled.sparsity >= rows[0].sparsity * 0.5
    assert distilled.name == "legacy, masks, distilled"


def test_physical_rows_are_real_files(experiment: EdgePruning) -> None:
    quick = {
        "calibration": 16,
        "refit_images": 32,
        "random_plans": 3,
        "refit_plans": 0,
        "rounds": 0,
        "units": ("width",),
    }
    plain, distilled = experiment.physical(("macs=60%",), **quick)
    assert plain.facts["epochs"] == 0
    assert distilled.facts["epochs"] == 1
    assert plain.megabytes < experiment.megabytes
    assert plain.sparsity < 0.01


def test_the_table_marks_what_is_published(experiment: EdgePruning) -> None:
    rows = experiment.published()
    assert [row.accuracy for row in rows] == [accuracy for _, accuracy, _ in PUBLISHED]
    text = markdown(rows)
    assert text.count("| published: ") == 3
    assert "91.40 %" in text
    assert cells(rows[0])[3] == "178.64"


def test_the_command_writes_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))
    model, out = tmp_path / "net.py", tmp_path / "results"
    model.write_text(
        "from torch import nn\ndef net():\n    import torch\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))\n"
    )
    monkeypatch.setattr(EdgePruning, "physical", lambda self, **_: [])
    given = ["--model", f"{model}:net", "--data", "fashion-mini", "--scale", "tiny", "--out", str(out)]
    found = CliRunner().invoke(app, ["reproduce", "edge-pruning", *given])
    assert found.exit_code == 0, found.output
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert len(rows) == 3 + 3 + 1 + len(METHODS) + 1 + len(METHODS)
    assert len((out / "iterations.csv").read_text().splitlines()) == 6
    assert "as published: q-bit search" in (out / "table.md").read_text()
    other = ["edge-pruning", *given[:-1], "x", "--scale", "x"]
    for wrong, says in ((["nothing", *given], "No such command 'nothing'"), (other, "scale is")):
        refused = CliRunner().invoke(app, ["reproduce", *wrong])
        assert refused.exit_code == 2
        assert says in refused.output
