"""The artifact of a network in few bits: read back to the bit, run by the runtime, refused where it is damaged."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import coldpress as cp
from coldpress.artifact import PACKED, read_metrics, read_plan
from coldpress.errors import ArtifactError, BudgetError, SpaceError, TaskError
from coldpress.few_bits import artifact as rounded
from coldpress.few_bits import choice as bit_choice
from coldpress.few_bits.network import packed_bytes
from coldpress.memory import peak_resident
from coldpress.recipe import Recipe
from coldpress.report import render
from coldpress.runtime.sessions import run, session
from coldpress.surgery.round_groups import Form
from tiny import as_if_trained

QUICK = {"calibration": 48, "refit_images": 96}


class Blocks(nn.Module):
    """Two convolutions around a shortcut, a norm each, one of them of groups, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.second, self.norm2 = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.apart, self.head = nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.first(x)))
        x = torch.relu(x + self.norm2(self.second(x)))
        return self.head(self.apart(x).mean((2, 3)))


class Encoder(nn.Module):
    """One head of attention and two layers behind it, with norms."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(20, 20) for _ in range(3))
        self.norm, self.up, self.down = nn.LayerNorm(20), nn.Linear(20, 40), nn.Linear(40, 20)
        self.head = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        weights = (self.query(x) @ self.key(x).transpose(1, 2) / 20**0.5).softmax(-1)
        x = self.norm(x + weights @ self.value(x))
        return self.head((x + self.down(torch.relu(self.up(x)))).mean(1))


def task_of(model: nn.Module, x: Tensor) -> cp.Task:
    with torch.no_grad():
        logits = model(x)
    labels = (logits - logits.mean(0)).argmax(1)
    batches = [(x[i : i + 32], labels[i : i + 32]) for i in range(0, len(x), 32)]
    return cp.Task(model, x[:1], train=batches[:-2], validation=batches[-2:-1], test=batches[-1:])


def convolutions() -> cp.Task:
    torch.manual_seed(0)
    return task_of(as_if_trained(Blocks()), torch.rand(224, 3, 8, 8))


def encoder() -> cp.Task:
    torch.manual_seed(0)
    return task_of(Encoder().eval(), torch.randn(224, 6, 20))


@pytest.fixture(scope="module")
def shared_out(tmp_path_factory: pytest.TempPathFactory) -> cp.RoundedResult:
    return cp.round_to_artifact(convolutions(), tmp_path_factory.mktemp("runs") / "few", average_bits=4.0, **QUICK)


@pytest.fixture(scope="module")
def in_groups(tmp_path_factory: pytest.TempPathFactory) -> cp.RoundedResult:
    folder = tmp_path_factory.mktemp("runs") / "few"
    return cp.round_to_artifact(encoder(), folder, bits=4, group_size=16, **QUICK)


@pytest.fixture(params=["shared_out", "in_groups"])
def result(request: pytest.FixtureRequest) -> cp.RoundedResult:
    return request.getfixturevalue(request.param)


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def factory(result: cp.RoundedResult) -> type[nn.Module]:
    return Blocks if isinstance(result.network.model, Blocks) else Encoder


def test_what_is_loaded_is_what_was_rounded_to_the_bit(result: cp.RoundedResult) -> None:
    saved = result.network.model.state_dict()
    loaded = cp.load(result.folder, factory(result)).state_dict()
    assert list(loaded) == list(saved)
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in saved.items())
    for name, layer in result.network.layers.items():
        assert torch.equal(loaded[f"{name}.weight"].flatten(1), layer.dequantized)


def test_both_files_compute_what_the_network_computes(result: cp.RoundedResult) -> None:
    x = torch.rand(5, 3, 8, 8) if factory(result) is Blocks else torch.randn(5, 6, 20)
    with torch.no_grad():
        expected = result.network.model(x).numpy()
    for name in ("model.fp32.onnx", "model.onnx"):
        np.testing.assert_allclose(run(session(result.folder / name), [x.numpy()])[0], expected, rtol=1e-3, atol=1e-4)


def test_the_metrics_are_those_of_the_files(result: cp.RoundedResult) -> None:
    metrics, folder = read_metrics(result.folder), result.folder
    assert metrics == json.loads(json.dumps(result.metrics))
    before, after = metrics["original"], metrics["compressed"]
    for side in (before, after):
        assert 0 <= side["accuracy_interval"][0] <= side["accuracy"] <= side["accuracy_interval"][1] <= 1
        assert {"median", "spread", "batch", "threads", "runtime"} <= set(side["latency_ms"])
        assert {"parameters", "sparsity", "macs", "file_bytes"} <= set(side)
    assert after["packed_bytes"] == (folder / PACKED).stat().st_size == metrics["packed"]["total"]
    assert after["file_bytes"] == (folder / "model.onnx").stat().st_size
    assert after["packed_bytes"] < before["packed_bytes"]
    levels = metrics["packed"]["levels"] + metrics["packed"]["scales"]
    assert levels <= result.network.bytes + len(result.network.layers)  # places and levels end in a byte each
    assert metrics["comparison"]["split"] == "test"
    assert metrics["seconds"]["round"] > 0
    peak = peak_resident()
    assert metrics["peak_bytes"] is peak is None or 10**7 < metrics["peak_bytes"] <= peak


def test_the_plan_says_the_form_of_every_layer(shared_out: cp.RoundedResult) -> None:
    forms = shared_out.network.forms
    assert read_plan(shared_out.folder).choices == {name: form.label for name, form in forms.items()}
    assert set(forms) == {"first", "second", "apart", "head"}
    assert shared_out.metrics["compressed"]["average_bits"] <= 4.0
    for name, told in shared_out.metrics["layers"].items():
        assert Form(told["bits"], told["sparsity"], told["group_size"]) == forms[name]
        assert told["bytes"] == packed_bytes(shared_out.network.layers[name], forms[name])
        assert told["error"] <= told["start_error"]


def test_the_recipe_asks_for_the_same(in_groups: cp.RoundedResult) -> None:
    recipe = Recipe.read(in_groups.folder / "recipe.yaml")
    assert (recipe.bits, recipe.average_bits, recipe.group_size) == (4, None, 16)
    assert recipe.calibration == QUICK["calibration"]
    with pytest.raises(TaskError, match="of coldpress round"):
        cp.compress(encoder(), cp.Budget(macs="50%"), bits=4)


def test_the_report_says_layer_by_layer_what_was_done(shared_out: cp.RoundedResult) -> None:
    page = render(shared_out.folder).read_text()
    for form in shared_out.network.forms.values():
        assert form.label in page
    assert "4 with weights in few bits" in page
    assert "All tensors, packed" in page


@pytest.mark.parametrize("where", [-1, -200])
def test_a_damaged_packed_file_is_refused(shared_out: cp.RoundedResult, where: int, tmp_path: Path) -> None:
    data = bytearray((shared_out.folder / PACKED).read_bytes())
    data[where] ^= 4
    (tmp_path / PACKED).write_bytes(data)
    with pytest.raises(ArtifactError, match="checksum"):
        cp.load(tmp_path, Blocks)


def test_without_a_factory_loading_says_what_is_missing(shared_out: cp.RoundedResult) -> None:
    with pytest.raises(ArtifactError, match="model_factory"):
        cp.load(shared_out.folder)


def test_what_cannot_be_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    task, out = convolutions(), tmp_path / "few"
    for asked in ({}, {"bits": 4, "average_bits": 3.0}):
        with pytest.raises(TaskError, match="either bits"):
            cp.round_to_artifact(task, out, **asked)
    with pytest.raises(TaskError, match="bits is 9; allowed: from 2 to 8"):
        cp.round_to_artifact(task, out, bits=9)
    with pytest.raises(TaskError, match="of compress"):
        cp.round_to_artifact(task, out, bits=4, budget=("macs=50%",))
    with pytest.raises(BudgetError, match=r"the least is \d\.\d\d") as told:
        cp.round_to_artifact(task, out, average_bits=1.0, **QUICK)
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        cp.round_to_artifact(task, out, bits=4, progress=stop, **QUICK)
    assert not list(tmp_path.iterdir())
    least = float(str(told.value).rpartition(" ")[2])
    assert cp.round_network(task, average_bits=least, sweeps=1, **QUICK).average_bits <= least
    out.mkdir()
    with pytest.raises(ArtifactError, match="--overwrite"):
        cp.round_to_artifact(task, out, bits=4)


def test_a_model_with_nothing_to_round_is_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    task = task_of(as_if_trained(Blocks()), torch.rand(224, 3, 8, 8))
    ignored = cp.Task(
        task.model, task.example_inputs, train=task.train, ignored_layers=("first", "second", "apart", "head")
    )
    with pytest.raises(SpaceError, match="no layer of this model can be rounded"):
        cp.round_to_artifact(ignored, tmp_path / "few", bits=4)


def test_a_run_that_was_stopped_takes_up_the_bits_that_were_decided(
    shared_out: cp.RoundedResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def again(*_: object, **__: object) -> None:
        raise AssertionError("decided a second time")

    out = tmp_path / "few"
    with monkeypatch.context() as patched:
        patched.setattr(rounded, "round_network", stop)
        with pytest.raises(KeyboardInterrupt):
            cp.round_to_artifact(convolutions(), out, average_bits=4.0, **QUICK)
    assert not out.exists()
    monkeypatch.setattr(rounded, "decide_forms", again)
    found = cp.round_to_artifact(convolutions(), out, average_bits=4.0, **QUICK)
    assert found.metrics["plan"] == shared_out.metrics["plan"]
    assert found.metrics["solver"]["gap"] == shared_out.metrics["solver"]["gap"]
    assert [path.name for path in tmp_path.iterdir()] == ["few"]


def test_what_keeps_floats_is_told_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bit_choice, "MOST_COLUMNS", 100)
    given = convolutions()
    task = cp.Task(given.model, given.example_inputs, train=given.train, test=given.test, ignored_layers=("apart",))
    folder = cp.round_to_artifact(task, tmp_path / "few", bits=4, **QUICK).folder
    refused = json.loads((folder / "details.json").read_text())["refused"]
    assert set(refused) == {"second", "apart"}
    assert "it is ignored" in refused["apart"]
    assert "its 108 columns would take 0.0 GB" in refused["second"]


def test_an_executor_changes_nothing(in_groups: cp.RoundedResult, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as executor:
        found = cp.round_to_artifact(encoder(), tmp_path / "few", bits=4, group_size=16, executor=executor, **QUICK)
    for name, layer in in_groups.network.layers.items():
        assert torch.equal(layer.levels, found.network.layers[name].levels)
        assert torch.equal(layer.scales, found.network.layers[name].scales)
