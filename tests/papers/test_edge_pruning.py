"""The published search of masks, to the letter and corrected, on a tiny transformer-like classifier."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import coldpress as cp
from coldpress.cli import app
from coldpress.commands.reproduce_edge_pruning import all_cells, markdown
from coldpress.energy.fisher import summed_loss
from coldpress.keys import digests
from coldpress.papers.edge_curvature import amounts_by_curvature
from coldpress.papers.edge_masks import masked, prunable, smallest
from coldpress.papers.edge_pruning import EdgePruning
from coldpress.papers.edge_pruning_figure import svg
from coldpress.papers.edge_pruning_table import AMOUNTS, METHODS, PUBLISHED, SCALES, Row
from command_line import words

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
def experiment(tmp_path_factory: pytest.TempPathFactory) -> EdgePruning:
    model = Net().eval()
    x = torch.randn(400, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        labels = model(x).argmax(1)
    parts = [torch.utils.data.TensorDataset(x[i:j], labels[i:j]) for i, j in ((0, 250), (250, 320), (320, 400))]
    task = cp.Task(model, x[:1], train=parts[0], validation=parts[1], test=parts[2])
    scale = replace(SCALES["tiny"], seeds=(0, 1), trained=100)
    return EdgePruning(task, scale, tmp_path_factory.mktemp("work"))


@pytest.fixture(scope="module")
def rows(experiment: EdgePruning) -> list[Row]:
    quick = {"units": ("width",), "refit_images": 32, "random_plans": 3, "rounds": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLDPRESS_CACHE", str(experiment.folder / "cache"))
        return list(experiment.stages(("macs=60%", "macs=1%"), **quick))


def made_again(*_: object) -> dict[str, object]:
    raise AssertionError("a row that was known is made again")


def of(rows: list[Row], kind: str, method: str) -> list[Row]:
    return [row for row in rows if (row.kind, row.method) == (kind, method)]


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


def test_curvature_chooses_the_amounts_of_least_expected_loss() -> None:
    model, names = Net().eval(), ["first", "second", "head"]
    x = torch.randn(30, 12, generator=torch.Generator().manual_seed(3))
    amounts = amounts_by_curvature(model, names, (x,), AMOUNTS, 0.13, seed=1)
    whole = sum(p.numel() for p in model.parameters())

    def harm(chosen: tuple[float, ...]) -> float:
        """Half of the Fisher information's form in what the masks change."""
        sums = torch.zeros(len(x), dtype=torch.float64)
        for i, sample in enumerate(x):
            model.zero_grad()
            summed_loss(model(sample[None]), None, 1 + i).backward()
            for name, amount in zip(names, chosen):
                weight = model.get_submodule(name).weight
                rows = smallest(weight.detach(), amount)
                sums[i] += (weight.grad * weight.detach()).flatten()[rows].double().sum()
        return float(sums.square().mean() / 2)

    def zeros(chosen: tuple[float, ...]) -> float:
        sizes = [model.get_submodule(name).weight.numel() for name in names]
        return sum(round(amount * size) for amount, size in zip(chosen, sizes)) / whole

    allowed = [chosen for chosen in itertools.product(AMOUNTS, repeat=3) if zeros(chosen) >= 0.13]
    assert 1 < len(allowed) < 8
    assert tuple(amounts.values()) == min(allowed, key=harm)
    with pytest.raises(cp.errors.BudgetError):
        amounts_by_curvature(model, names, (x,), AMOUNTS, 0.5)


def test_the_published_procedure_is_followed_on_the_data_at_hand(rows: list[Row]) -> None:
    teacher, uniform, found = (row for row in rows if row.kind == "as published")
    assert teacher.accuracy == 1.0
    assert teacher.sparsity == 0.0
    assert uniform.sparsity == pytest.approx(0.15 * 2200 / 2283, rel=0.02)
    tried = found.facts["iterations"]
    assert len(tried) == 5
    assert set(AMOUNTS) >= set(found.facts["amounts"].values())
    assert found.accuracy == min(tried, key=lambda entry: entry["fitness"])["accuracy"]
    assert found.megabytes == teacher.megabytes


def test_corrected_searches_have_the_same_evaluations_and_every_seed(rows: list[Row]) -> None:
    searches = [row for method in METHODS for row in of(rows, "corrected", f"{method}, masks")]
    assert [row.seed for row in searches] == [0, 1] * len(METHODS)
    (uniform,) = of(rows, "corrected", "uniform L1, masks")
    assert uniform.sparsity == pytest.approx(sum(row.sparsity for row in searches) / len(searches), abs=0.01)
    for row in (uniform, *searches):
        trained = next(r for r in of(rows, "corrected", f"{row.method}, distilled") if r.seed == row.seed)
        assert trained.sparsity >= row.sparsity * 0.5
        assert trained.note == "1 epoch of 100 samples"
        assert trained.facts["best_epoch"] in (0, 1)
        assert row.facts["comparison"]["difference"] == pytest.approx(row.accuracy - 1.0)


def test_physical_rows_are_real_files_and_what_cannot_be_met_is_said(rows: list[Row], experiment: EdgePruning) -> None:
    for name, epochs in (("coldpress, macs=60%", 0), ("coldpress, macs=60%, distilled", 1)):
        found = of(rows, "corrected", name)
        assert [row.seed for row in found] == [0, 1]
        for row in found:
            assert row.facts["epochs"] == epochs
            assert row.megabytes < experiment.megabytes
            assert row.sparsity < 0.01
    (skipped, *_) = of(rows, "corrected", "coldpress, macs=1%")
    assert skipped.accuracy is None
    assert skipped.note.startswith("skipped: ")


def test_what_is_known_is_not_made_again(rows: list[Row], experiment: EdgePruning) -> None:
    read = [Row(**row) for row in json.loads(json.dumps([asdict(row) for row in rows]))]
    again = EdgePruning(experiment.task, experiment.scale, experiment.folder, read)
    again._masked = again._distilled = again._physical = made_again
    assert [row.name for row in again.stages(("macs=60%", "macs=1%"))] == [row.name for row in rows]


def test_masks_are_timed_together_at_the_end(rows: list[Row], experiment: EdgePruning) -> None:
    moments = iter(range(1000, 2000))
    timing = EdgePruning(experiment.task, experiment.scale, experiment.folder)
    timing._milliseconds = lambda: float(next(moments))
    before, after = {row.name: row for row in rows}, {row.name: row for row in timing.timed(rows)}
    assert list(after) == list(before)
    for name, row in after.items():
        masks = row.kind != "published" and not row.method.startswith("coldpress")
        assert (row.milliseconds != before[name].milliseconds) == masks
        if row.method.endswith("masks, distilled"):
            assert row.milliseconds == after[row.kind, row.method.removesuffix(", distilled"), row.seed].milliseconds
    assert untimed(map(asdict, after.values())) == untimed(map(asdict, rows))


def untimed(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "milliseconds"} for row in rows]


def test_the_table_marks_what_is_published(rows: list[Row]) -> None:
    assert [row.accuracy for row in rows if row.kind == "published"] == [accuracy for _, accuracy, _ in PUBLISHED]
    text = markdown(rows)
    assert text.count("| published: ") == 3
    assert "91.40 %" in text
    assert "178.64" in text
    assert text.count("; 2 seeds |") == 2 * (len(METHODS) + 1) + 2


def test_weights_and_the_data_of_every_split_tell_a_task_from_others() -> None:
    generator = torch.Generator().manual_seed(1)
    splits = {split: torch.randn(20, 12, generator=generator) for split in ("train", "validation", "test")}

    def made(model: nn.Module, changed: str = "") -> dict[str, str]:
        inputs = {split: x + (split == changed) for split, x in splits.items()}
        data = {split: torch.utils.data.TensorDataset(x, torch.arange(20) % 3) for split, x in inputs.items()}
        return digests(cp.Task(model, splits["test"][:1], **data))

    same, other = made(Net()), Net()
    with torch.no_grad():
        other.head.bias[0] += 1
    assert made(Net()) == same
    assert [name for name, value in made(other).items() if value != same[name]] == ["weights_digest"]
    for split in splits:
        assert [name for name, value in made(Net(), split).items() if value != same[name]] == ["data_digest"]


def test_the_figure_names_every_row_and_shows_who_is_taken_for_whom(rows: list[Row]) -> None:
    figure = svg(rows)
    for row in rows:
        assert f"{row.kind}: {row.method}{' (skipped)' if row.accuracy is None else ''}<" in figure
    (teacher,) = of(rows, "as published", "teacher")
    shown = sum(row.seed == 0 and row.method.endswith("masks, distilled") for row in rows) + 2
    assert figure.count(">predicted<") == shown
    assert sum(map(sum, teacher.facts["confusion"])) == 80
    assert all(f">{teacher.facts['confusion'][i][i]}<" in figure for i in range(3))
    assert "(skipped)" in svg([Row("corrected", "nothing", None)])


def test_nsga2_has_generations_in_as_many_evaluations_as_there_are(experiment: EdgePruning) -> None:
    assert [SCALES[name].population for name in ("tiny", "short", "paper")] == [2, 5, 12]
    several = EdgePruning(experiment.task, replace(experiment.scale, evaluations=12), experiment.folder)
    found = {name: several._searched(name, 1) for name in ("nsga2", "random")}
    assert found["nsga2"]["note"] == "12 evaluations each, 3 a generation"
    study = optuna.create_study(sampler=several._sampler("nsga2", 1))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=12)
    generations = [value for trial in study.trials for key, value in trial.system_attrs.items() if "generation" in key]
    assert max(generations) == 3


def test_what_training_did_not_help_is_told() -> None:
    seeds = [Row("corrected", "x", 0.9, seed=i, note="1 epoch", facts={"best_epoch": i}) for i in range(2)]
    ((*_, note),) = all_cells(seeds)
    assert note == "1 epoch; 1 of 2 no better by validation data, and left as they were; 2 seeds"
    ((*_, note),) = all_cells(seeds[1:])
    assert note == "1 epoch"


def test_the_command_writes_what_it_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))
    model, out = tmp_path / "net.py", tmp_path / "results"
    model.write_text(
        "from torch import nn\ndef net():\n    import torch\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10))\n"
    )
    monkeypatch.setattr(EdgePruning, "_physical", lambda *_: {"accuracy": None, "note": "left out"})
    given = ["--model", f"{model}:net", "--data", "fashion-mini", "--scale", "tiny", "--out", str(out)]
    found = CliRunner().invoke(app, ["reproduce", "edge-pruning", *given])
    assert found.exit_code == 0, found.output
    rows = json.loads((out / "results.json").read_text())["rows"]
    assert len(rows) == 3 + 3 + 2 * (2 + len(METHODS)) + 4
    assert len((out / "iterations.csv").read_text().splitlines()) == 6
    assert "as published: q-bit search" in (out / "table.md").read_text()
    figure = (out / "figure.svg").read_text()
    assert [row["method"] for row in rows if f"{row['kind']}: {row['method']}" not in figure] == []
    monkeypatch.setattr(EdgePruning, "_masked", made_again)
    again = CliRunner().invoke(app, ["reproduce", "edge-pruning", *given])
    assert again.exit_code == 0, again.output
    assert untimed(json.loads((out / "results.json").read_text())["rows"]) == untimed(rows)
    changed = CliRunner().invoke(app, ["reproduce", "edge-pruning", *given, "--seed", "1"])
    assert changed.exit_code == 2
    assert "other settings (seed, data_digest)" in " ".join(changed.output.split())
    model.write_text(model.read_text().replace("manual_seed(0)", "manual_seed(1)"))
    anew = CliRunner().invoke(app, ["reproduce", "edge-pruning", *given])
    assert anew.exit_code == 2
    assert "other settings (weights_digest); choose another --out, or give --overwrite to start anew" in words(anew)
    found = json.loads((out / "results.json").read_text())
    del found["settings"]["weights_digest"], found["settings"]["data_digest"]
    (out / "results.json").write_text(json.dumps(found))
    old = CliRunner().invoke(app, ["reproduce", "edge-pruning", *given])
    assert old.exit_code == 2
    assert "settings (weights_digest, which they do not tell, data_digest, which they do not tell)" in words(old)
    other = ["edge-pruning", *given[:-1], "x", "--scale", "x"]
    for wrong, says in ((["nothing", *given], "No such command 'nothing'"), (other, "scale is")):
        refused = CliRunner().invoke(app, ["reproduce", *wrong])
        assert refused.exit_code == 2
        assert says in refused.output
