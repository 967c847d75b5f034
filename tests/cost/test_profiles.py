"""Machines that are not at hand: a roofline that behaves as one, and runs that are planned by it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import coldpress as cp
from coldpress.cli import app
from coldpress.cost.model_error import ModelError, model_error
from coldpress.cost.operators import Operator
from coldpress.cost.profiles import PROFILES, ModelledTable, host_as_unknown, profile, table_for
from coldpress.cost.table import LatencyTable
from coldpress.errors import TaskError
from coldpress.layer_shape import LayerShape
from coldpress.pricing import price
from coldpress.space import find_space
from coldpress.structures import measure_structures

CONV = LayerShape("conv", 64, 64, (3, 3), padding=(1, 1), input_size=(32, 32))
LINEAR = LayerShape("linear", 4096, 4096)


@pytest.mark.parametrize("name", PROFILES)
def test_a_roofline_knows_compute_memory_and_launches(name: str) -> None:
    machine = PROFILES[name]
    table = ModelledTable(machine)
    assert table.seconds(CONV) >= CONV.macs / (machine.fp32 * machine.ghz * 1e9)
    assert table.seconds(LINEAR) >= LINEAR.bytes / (machine.far * 1e9)
    tiny = LayerShape("linear", 4, 4)
    assert table.seconds(tiny) == pytest.approx(machine.launch * 1e-6, rel=0.1)
    assert table.seconds(replace(CONV, bits=8)) < table.seconds(CONV)
    assert table.seconds(replace(CONV, out_channels=32)) < table.seconds(CONV)
    assert ModelledTable(machine, batch=8).seconds(CONV) > 4 * table.seconds(CONV)
    more = ModelledTable(machine, threads=4).seconds(CONV)
    assert more < 0.5 * table.seconds(CONV) if machine.cores >= 4 else more == table.seconds(CONV)
    assert table.seconds(replace(CONV, method="svd", rank=(8,))) == pytest.approx(
        sum(table.seconds(part) for part in replace(CONV, method="svd", rank=(8,)).factors())
    )


def test_names() -> None:
    assert isinstance(table_for("rpi5", 1, 1), ModelledTable)
    assert isinstance(table_for("host", 1, 1), LatencyTable)
    with pytest.raises(TaskError, match=r"no device is called 'rpi55'.*did you mean 'rpi5'"):
        profile("rpi55")


def with_networks(table: LatencyTable) -> LatencyTable:
    """The table with three networks of one operator, and the seconds that they took."""
    for number in (1, 2, 4):
        table.networks[f"network {number}"] = 1e-3 * number
        table.operators[f"network {number}"] = Counter({Operator(10**7, 4000, 4000, 32): number})
    return table


def test_the_error_on_this_machine_is_that_of_its_measured_layers_and_networks(tmp_path: Path) -> None:
    table = LatencyTable(tmp_path)
    modelled = ModelledTable(host_as_unknown())
    assert model_error(table, modelled) == ModelError(None, None)
    table.measure([replace(CONV, out_channels=width) for width in (16, 32, 64)])
    with_networks(table).networks["of an earlier version"] = 1.0
    table.save()
    table = LatencyTable(tmp_path)
    error = model_error(table, modelled)
    assert error.layers is not None
    assert error.networks is not None
    assert error.layers.count == error.networks.count == 3
    ratios = [modelled.seconds(shape) / seconds for shape, seconds in table.measured()]
    assert error.layers.median == pytest.approx(np.median(ratios))
    assert error.networks.median == pytest.approx(1e3 * modelled.network({Operator(10**7, 4000, 4000, 32): 1}))
    assert error.networks.spread == pytest.approx(1.0)


def test_whole_networks_calibrate_a_modelled_machine_as_they_do_this_one(net: nn.Module, tmp_path: Path) -> None:
    task = cp.Task(net, torch.randn(1, 3, 16, 16), train=2 * [(torch.randn(32, 3, 16, 16), torch.arange(32) % 4)])
    space = find_space(task, ["width"])
    modelled, here = ModelledTable(PROFILES["rpi4"]), LatencyTable(tmp_path)
    prices, original = price(task, space, table=modelled)
    assert original.seconds is not None
    assert all(seconds > layers for _, layers, seconds in prices.points)
    assert prices.calibration != (1.0, 0.0)
    measure_structures(task, space, {}, table=here)
    (operators,) = here.operators.values()
    assert here.operators.keys() == here.networks.keys()
    assert modelled.network(operators) == pytest.approx(original.seconds)


def test_profiles_are_listed_with_their_sources_and_the_error_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path))
    with_networks(LatencyTable(batch=4)).save()
    found = CliRunner().invoke(app, ["devices", "--batch", "4"])
    assert found.exit_code == 0
    assert all(name in found.output for name in PROFILES)
    assert "1 thread, batch 4:" in found.output
    assert "fewer than three layers were measured so" in found.output
    assert "3 whole networks, modelled / measured" in found.output
    assert "fewer than three whole networks" in CliRunner().invoke(app, ["devices"]).output


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4)),
    ).eval()


def test_a_plan_for_another_machine_keeps_its_budget_there_and_says_that_it_is_modelled(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))
    here = LatencyTable()
    here.measure([replace(CONV, out_channels=width) for width in (16, 32, 64)])
    with_networks(here).save()
    x = torch.randn(96, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = (net(x) - net(x).mean(0)).argmax(1)
    batches = [(x[i : i + 32], labels[i : i + 32]) for i in range(0, 96, 32)]
    task = cp.Task(net, x[:1], train=batches[:2], test=batches[2:])
    result = cp.compress(
        task,
        cp.Budget(latency="50%"),
        device="rpi4",
        memory="2GB",
        epochs=0,
        calibration=16,
        refit_images=32,
        random_plans=3,
        refit_plans=0,
        rounds=0,
        out=tmp_path / "run",
    )
    modelled = result.metrics["modelled"]
    assert modelled["device"] == "rpi4"
    error = model_error(here, ModelledTable(host_as_unknown()))
    assert error.layers is not None
    assert error.networks is not None
    assert modelled["host_error"] == asdict(error)
    assert modelled["compressed_ms"] <= 0.5 * modelled["original_ms"]
    assert result.metrics["budget"][0]["kept"]
    assert result.metrics["budget"][0]["reached"] == pytest.approx(modelled["compressed_ms"] / 1e3)
    assert result.metrics["predicted"]["latency_ms"] is None
    assert 0 < result.metrics["memory"]["data"] < 2e9
    assert result.metrics["memory"]["latency_ms"] > 0
    assert "Latency within 2.00 GB of data" in (tmp_path / "run" / "report.html").read_text()
    assert "Raspberry Pi 4 (Cortex-A72), modelled" in (tmp_path / "run" / "report.html").read_text()
