"""QIANets' steps as presets: an artifact as of any compress, within its budget, or refused with what to do instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from coldpress import Budget, Task, compress, load, round_to_artifact
from coldpress.commands.compress import describe_preset
from coldpress.data import TensorData
from coldpress.errors import BudgetError, ColdpressError, TaskError
from coldpress.papers.presets import compress_by_preset
from coldpress.papers.qianets_steps import corrected
from coldpress.surgery.eca import ECA
from coldpress.surgery.factorized import Factorized

QUICK = {"epochs": 1, "batch_size": 16, "calibration": 16, "refit_images": 32}


class Net(nn.Module):
    """Two residual blocks and a wide convolution."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.first, self.second = nn.Conv2d(3, 16, 3, padding=1), BasicBlock(16, 16), BasicBlock(16, 16)
        self.wide, self.head = nn.Conv2d(16, 64, 3, 2, 1), nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.wide(self.second(self.first(self.stem(x))))).mean((2, 3)))


def images(count: int, seed: int) -> TensorData:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    inputs = torch.randint(0, 80, (count, 3, 16, 16), generator=generator) + 40 * labels.view(-1, 1, 1, 1)
    return TensorData(inputs.to(torch.uint8), labels, ("a", "b", "c", "d"))


@pytest.fixture(scope="module")
def task() -> Task:
    return Task(Net().eval(), train=images(96, 0), validation=images(24, 1), test=images(40, 2))


def test_corrected_steps_keep_a_budget_with_the_least_sparsity(task: Task, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = compress_by_preset(task, out, "qianets", Budget(macs="55%"), rank=4, **QUICK)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["budget"][0]["kept"]
    assert metrics["budget"][0]["fraction"] > 0.35
    assert 0.0 < metrics["preset"]["sparsity"] < 0.8
    kinds = {type(module) for module in result.model.modules()}
    assert {ECA, Factorized} <= kinds
    rows = metrics["factors"]["layers"]
    assert [row["layer"] for row in rows] == [n for n, m in result.model.named_modules() if isinstance(m, Factorized)]
    assert all(row["ok"] and row["rank"] == [4] for row in rows)  # by the same times that they were chosen by
    assert "dense layer: passed (times measured)" in (out / "report.html").read_text()
    again = load(out, Net)
    x = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(again(x), result.model.eval()(x))
    assert {"report.html", "model.onnx", "recipe.yaml", "log.jsonl"} <= {path.name for path in out.iterdir()}


def test_published_steps_save_nothing(task: Task, tmp_path: Path) -> None:
    result = compress_by_preset(task, tmp_path / "run", "qianets-legacy", sparsity=0.3, rank=4, **QUICK)
    before, after = result.metrics["original"], result.metrics["compressed"]
    assert after["parameters"] == before["parameters"]
    assert after["macs"] == before["macs"]
    assert result.plan.structure == {}
    assert "factors" not in result.metrics


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"preset": "qianets-legacy", "budget": Budget(macs="50%")}, "give --sparsity"),
        ({"preset": "qianets-legacy", "sparsity": 0.3}, "give --sparsity"),
        ({"preset": "qianets"}, "either a --budget or a --sparsity"),
        ({"preset": "qianets", "sparsity": 0.3, "budget": Budget(macs="50%")}, "either a --budget or a --sparsity"),
        ({"preset": "qianets", "sparsity": 1.5}, "from 0 to 1"),
        ({"preset": "qianets", "sparsity": 0.2, "rank": 0}, "rank is 0"),
        ({"preset": "qianets", "sparsity": 0.2, "max_accuracy_drop": 1.0}, "no accuracy limit"),
        ({"preset": "curvature", "sparsity": 0.2}, "call that"),
        ({"preset": "qianets", "sparsity": 0.2, "bits": 4}, "no bits"),
        ({"preset": "qianets", "sparsity": 0.2, "device": "rpi4"}, "no device profile"),
        ({"preset": "qianets", "sparsity": 0.2, "attention_weight": 1.0}, "attention"),
        ({"preset": "annealing"}, "qianets-legacy"),
        ({"preset": "qianets-legacy", "sparsity": 0.3, "rank": "evbmf"}, "one for all layers"),
        ({"preset": "qianets", "sparsity": 0.3, "rank": "energy:2"}, "at most 1"),
        (
            {"preset": "qianets", "sparsity": 0.2, "solver": "milp", "hint_weight": 1.0},
            "no use for solver, hint_weight",
        ),
        ({"preset": "qianets", "sparsity": 0.2, "units": ("width",)}, "no use for units"),
        ({"preset": "qianets-legacy", "sparsity": 0.2, "rank": 4, "int8": "both"}, "no use for int8"),
        ({"preset": "qianets-legacy", "sparsity": 0.2, "rank": 4, "stages": 1}, "no use for stages"),
        ({"preset": "qianets-legacy", "sparsity": 0.2, "rank": 4, "eca_kernel": 0}, "no use for eca_kernel"),
        ({"preset": "qianets", "sparsity": 0.2, "rank": 4, "retention_units": "weights"}, "no budget and no rank"),
        ({"preset": "qianets", "budget": Budget(macs="50%"), "retention_units": "weights"}, "no budget and no rank"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    task: Task, tmp_path: Path, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(ColdpressError, match=words):
        compress_by_preset(task, tmp_path / "run", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_what_no_sparsity_reaches_is_said(task: Task, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match="more than allowed: macs"):
        compress_by_preset(task, tmp_path / "run", "qianets", Budget(macs="0.01%"), **QUICK)


@pytest.mark.parametrize(
    "given", [{"preset": "qianets"}, {"rank": 4}, {"entanglement": 0.2}, {"stages": 1}, {"eca_kernel": 0}]
)
def test_compress_itself_takes_nothing_of_presets(task: Task, given: dict[str, Any]) -> None:
    with pytest.raises(TaskError, match="compress_by_preset"):
        compress(task, Budget(macs="50%"), **given)
    with pytest.raises(TaskError, match="are of compress"):
        round_to_artifact(task, "nowhere", bits=4, **given)


def test_ranks_by_a_rule_and_no_attention(task: Task, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"sparsity": 0.3, **QUICK, "epochs": 0}
    found = compress_by_preset(task, tmp_path / "run", "qianets", rank="energy:0.2", eca_kernel=0, **settings)
    assert not any(isinstance(module, ECA) for module in found.model.modules())
    ranks = [len(module[0].weight) for module in found.model.modules() if isinstance(module, Factorized)]
    assert len(set(ranks)) > 1
    assert describe_preset(found.metrics["preset"]) == "qianets: sparsity 0.300, ranks by energy:0.2"


def test_the_settings_reach_the_steps(task: Task, tmp_path: Path) -> None:
    found = compress_by_preset(
        task, tmp_path / "run", "qianets", sparsity=0.3, entanglement=1.0, stages=2, eca_kernel=5,
        **(QUICK | {"epochs": 0}),
    )  # fmt: skip
    inputs, _ = task.calibration(QUICK["refit_images"])
    settings: list[dict[str, Any]] = [{"kernel": 5, "entanglement": 1.0, "stages": 2}]
    settings += [settings[0] | other for other in ({"kernel": 3}, {"entanglement": 0.1}, {"stages": 3})]
    tensors = found.model.state_dict()
    same = []
    for given in settings:
        wanted = corrected(task.model, task.example_inputs, inputs, 0.3, None, **given).state_dict()
        same.append(all(torch.equal(tensor, wanted[name]) for name, tensor in tensors.items()))
    assert same == [True, False, False, False]


def test_single_weights_stay_zero_and_save_nothing(task: Task, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"sparsity": 0.1, "entanglement": 0.0, "eca_kernel": 0, "retention_units": "weights"}
    found = compress_by_preset(task, tmp_path / "run", "qianets", **settings, **QUICK)
    assert found.metrics["original"]["parameters"] == found.metrics["compressed"]["parameters"]
    for name, module in found.model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert float((module.weight == 0).double().mean()) == pytest.approx(0.1, abs=0.01), name
    assert not torch.equal(found.model.get_submodule("head").bias, task.model.get_submodule("head").bias)
    assert describe_preset(found.metrics["preset"]).endswith("held at zero: zeros, not smaller")


def test_the_published_entanglement_takes_more_along(task: Task, tmp_path: Path) -> None:
    settings = {"sparsity": 0.3, "rank": 4, **QUICK, "epochs": 0}
    found = [
        compress_by_preset(task, tmp_path / str(share), "qianets-legacy", entanglement=share, **settings).model
        for share in (0.0, 1.0)
    ]
    assert not torch.equal(*(model.get_submodule("head").weight for model in found))


@pytest.mark.parametrize("preset", ["qianets", "qianets-legacy"])
def test_ignored_layers_stay(task: Task, tmp_path: Path, preset: str) -> None:
    kept = Task(Net().eval(), train=task.train, test=task.test, ignored_layers=("wide", "first"))
    found = compress_by_preset(kept, tmp_path / "run", preset, sparsity=0.9, rank=4, **(QUICK | {"epochs": 0}))
    before, after = kept.model.state_dict(), found.model.state_dict()
    for name in ("wide.weight", "first.conv1.weight"):
        torch.testing.assert_close(after[name], before[name])
    (changed,) = (name for name in after if name.startswith("second") and name.endswith("conv1.weight"))
    assert not torch.equal(after[changed], before["second.conv1.weight"])


def test_a_network_without_convolutions_is_carried_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(768, 24), nn.ReLU(), nn.Linear(24, 4)).eval()
    task = Task(layers, train=images(48, 0), test=images(20, 1))
    settings: dict[str, Any] = {"sparsity": 0.5, "rank": 4, **QUICK, "epochs": 0}
    found = compress_by_preset(task, tmp_path / "run", "qianets", **settings)
    assert found.metrics["compressed"]["macs"] <= 0.5 * found.metrics["original"]["macs"] + 24
    assert not any(isinstance(module, ECA) for module in found.model.modules())
    legacy = compress_by_preset(task, tmp_path / "legacy", "qianets-legacy", **settings)
    assert legacy.metrics["compressed"]["macs"] == found.metrics["original"]["macs"]
    alone = Task(nn.Flatten(), train=images(48, 0))
    with pytest.raises(ColdpressError, match="no convolution or linear"):
        compress_by_preset(alone, tmp_path / "none", "qianets-legacy", **settings)
