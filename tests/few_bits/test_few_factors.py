"""Layers that became two factors of few levels: real layers, fewer bytes, read back equal; what cannot be is told."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from coldpress.artifact import PACKED, load, read_plan
from coldpress.errors import SpaceError, SurgeryError, TaskError
from coldpress.few_bits.artifact import round_to_artifact
from coldpress.few_bits.factors import factor_network
from coldpress.few_bits.network import RoundedNetwork
from coldpress.packed import pack_weights
from coldpress.runtime.sessions import run, session
from coldpress.surgery.factor_layers import FactorPair, factor_layers
from coldpress.surgery.factorized import Factorized
from coldpress.task import Task
from tiny import as_if_trained

QUICK = {"calibration": 64, "refit_images": 192}


class Blocks(nn.Module):
    """Two convolutions around a shortcut, one in groups, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.second, self.norm2 = nn.Conv2d(12, 12, 3, stride=2, padding="valid", bias=False), nn.BatchNorm2d(12)
        self.apart = nn.Conv2d(12, 12, 3, groups=2)
        self.head = nn.Linear(12, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm1(self.first(x)))
        x = torch.relu(self.norm2(self.second(x)))
        return self.head(torch.relu(self.apart(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def task() -> Task:
    torch.manual_seed(0)
    model = as_if_trained(Blocks()).eval()
    x = torch.rand(320, 3, 8, 8)
    logits = model(x).detach()
    labels = (logits - logits.mean(0)).argmax(1)
    train = [(x[i : i + 64], labels[i : i + 64]) for i in range(0, 320, 64)]
    return Task(model, (x[:1],), train=train[:4], test=train[4:], hold_out=False)


@pytest.fixture(scope="module")
def network(task: Task) -> RoundedNetwork:
    return factor_network(task, 8, right="ternary", rounds=1, **QUICK)


def test_layers_are_two_whose_levels_are_kept(task: Task, network: RoundedNetwork) -> None:
    assert {name: pair.label for name, pair in network.forms.items()} == dict.fromkeys(
        ("first", "second"), "rank 8, float x ternary"
    )  # the head's full rank is 8, and one is in groups
    assert set(network.layers) == {"first.0", "second.0"}
    for name, width, kernel in (("first", 3, 3), ("second", 12, 3)):
        module = network.model.get_submodule(name)
        assert isinstance(module, Factorized)
        assert [tuple(part.weight.shape) for part in module] == [(8, width, kernel, kernel), (12, 8, 1, 1)]
        layer = network.layers[f"{name}.0"]
        assert torch.equal(module[0].weight.flatten(1), layer.dequantized)
        assert set(layer.levels.unique().tolist()) <= {-1, 0, 1}
        assert layer.error <= layer.start_error
    assert network.model.second[0].stride == (2, 2)
    x = torch.rand(4, 3, 8, 8)
    assert network.model(x).shape == task.model(x).shape
    assert not isinstance(task.model.first, Factorized)


def test_the_packed_file_is_smaller_and_is_read_back_equal(task: Task, network: RoundedNetwork, tmp_path: Path) -> None:
    size = pack_weights(network.model, network.layers, tmp_path / "packed", network.structure)
    loaded = load(tmp_path / "packed", Blocks).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in network.model.state_dict().items())
    dense = sum(4 * task.model.get_submodule(name).weight.numel() for name in ("first", "second"))
    left = 2 * 4 * 12 * 8
    assert size.levels + size.scales + left <= sum(
        pair.bytes(12, columns) for pair, columns in zip(network.forms.values(), (27, 108))
    )
    assert size.levels + size.scales + left < dense / 2


def test_annealed_levels_lose_less_than_a_rank_of_as_few_bytes_in_one_pass(task: Task) -> None:
    inputs = task.calibration(192)[0]
    student = copy.deepcopy(task.model)
    found = factor_layers(student, task.model, inputs, {"second": FactorPair(8, "int8", "ternary")}, rounds=2)
    assert set(found) == {"second.0", "second.1"}
    assert found["second.0"].error < 0.95 * found["second.0"].start_error


def test_a_folder_carries_factors(task: Task, tmp_path: Path) -> None:
    result = round_to_artifact(task, tmp_path / "few", factors="float, int8 2:4", rank=4, **QUICK)
    forms, metrics = result.network.forms, result.metrics
    assert read_plan(result.folder).choices == {name: form.label for name, form in forms.items()}
    saved, loaded = result.network.model.state_dict(), load(result.folder, Blocks).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in saved.items())
    assert metrics["compressed"]["packed_bytes"] == (result.folder / PACKED).stat().st_size
    assert metrics["compressed"]["packed_bytes"] < metrics["original"]["packed_bytes"]
    assert set(metrics["layers"]) == {"first", "second", "head"}
    x = torch.rand(5, 3, 8, 8)
    with torch.no_grad():
        expected = result.network.model(x).numpy()
    for name in ("model.fp32.onnx", "model.onnx"):
        np.testing.assert_allclose(run(session(result.folder / name), [x.numpy()])[0], expected, rtol=1e-3, atol=1e-4)
    refused = json.loads((result.folder / "details.json").read_text())["refused"]
    assert set(refused) == {"apart"}
    checked = {row["layer"] for row in metrics["factors"]["layers"]}  # each beside the dense layer
    assert checked == {"first", "second", "head"}
    assert "No factor layer slower than the dense layer" in (result.folder / "report.html").read_text()


def test_only_named_layers_change(task: Task) -> None:
    found = factor_network(task, "energy:0.5", layers=["second"], rounds=0, **QUICK)
    assert list(found.forms) == ["second"]
    assert not isinstance(found.model.first, Factorized)


def test_what_cannot_be_is_refused(task: Task, tmp_path: Path) -> None:
    for rank in (12, 13):
        with pytest.raises(SurgeryError, match="its full rank is 12: give a lower rank"):
            factor_network(task, rank, layers=["second"], **QUICK)
    assert FactorPair(11, "ternary", "ternary").bytes(12, 108) < 4 * 12 * 108
    with pytest.raises(SurgeryError, match=r"1296 multiplications; as rank 11, .* and 1320"):
        factor_network(task, 11, "ternary", "ternary", layers=["second"], **QUICK)
    with pytest.raises(SurgeryError, match="it would take"):
        factor_network(task, 11, "int8", "int8", layers=["head"], **QUICK)
    with pytest.raises(SpaceError, match="'apart' cannot become two factors: it is no layer of one group"):
        factor_network(task, 4, layers=["apart"], **QUICK)
    with pytest.raises(SpaceError, match="no layer takes fewer bytes"):
        factor_network(task, 500, **QUICK)
    with pytest.raises(SurgeryError, match="convolution of one group"):
        factor_layers(copy.deepcopy(task.model), task.model, task.calibration(16)[0], {"apart": FactorPair(2)})
    for forms, says in ((("float", "float"), "the SVD is the best"), (("float", "2:4"), "stored whole")):
        with pytest.raises(SurgeryError, match=says):
            FactorPair(4, *forms)
    with pytest.raises(TaskError, match="factors take a rank"):
        round_to_artifact(task, tmp_path / "few", factors="float,ternary")
    with pytest.raises(TaskError, match="no bits"):
        round_to_artifact(task, tmp_path / "few", bits=4, factors="float,ternary", rank=4)
    with pytest.raises(TaskError, match="of compress"):
        round_to_artifact(task, tmp_path / "few", bits=4, rank=4)
    assert not list(tmp_path.iterdir())
