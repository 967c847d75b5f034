"""Factor layers of a network that is handed out are held against the dense layers that they stand for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from coldpress.factor_check import check_factors, factored_shapes
from coldpress.layer_shape import LayerShape
from coldpress.recipe import Recipe
from coldpress.report import render
from coldpress.report.tables import factors
from coldpress.space import layer_shapes
from coldpress.surgery.factorize import build_factors

KERNEL = {"kernel": (3, 5), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 1), "input_size": (12, 10)}
SHAPES = [
    LayerShape("conv", 16, 24, **KERNEL, method="svd", rank=(4,)),  # type: ignore[arg-type]
    LayerShape("conv", 16, 24, **KERNEL, method="spatial", rank=(6,)),  # type: ignore[arg-type]
    LayerShape("conv", 16, 24, **KERNEL, method="tucker", rank=(4, 8)),  # type: ignore[arg-type]
    LayerShape("conv", 16, 24, **KERNEL, method="cp", rank=(12,)),  # type: ignore[arg-type]
    LayerShape("conv", 16, 24, input_size=(12, 10), method="svd", rank=(4,)),
    LayerShape("linear", 24, 40, input_size=(7, 1), method="svd", rank=(4,)),
    LayerShape("linear", 24, 40, input_size=(7, 1), method="tensor-train", rank=(3,)),
]


def input_of(shape: LayerShape) -> Tensor:
    sizes = (shape.in_channels, *shape.input_size) if shape.kind == "conv" else (7, shape.in_channels)
    return torch.randn(2, *sizes)


@pytest.mark.parametrize("form", ["float", "static", "dynamic"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.kind} {shape.method} {shape.kernel}")
def test_a_factor_layer_is_known_again_from_the_network_alone(shape: LayerShape, form: str) -> None:
    network = nn.Sequential(build_factors(shape))
    int8 = {} if form == "float" else {f"0.{i}": form for i in range(len(network[0]))}
    wanted = replace(shape, bits=8 if int8 else 32, dynamic=form == "dynamic")
    assert factored_shapes(network, (input_of(shape),), int8) == {"0": wanted}  # type: ignore[arg-type]
    dense = nn.Conv2d(16, 24, shape.kernel, shape.stride, shape.padding) if shape.kind == "conv" else nn.Linear(24, 40)
    whole = layer_shapes(nn.Sequential(dense), (input_of(shape),))["0"]
    assert replace(shape, method="dense", rank=()) == whole


def test_slower_factors_are_told_in_figures_and_in_the_report(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    few, many = (LayerShape("linear", 512, 512, method="svd", rank=(rank,)) for rank in (16, 500))
    network = nn.Sequential(build_factors(few), build_factors(many), nn.Linear(512, 512))
    found = check_factors(network, (torch.randn(1, 512),), {}, Recipe(device="rpi4"))
    fast, slow = found["layers"]
    assert (fast["layer"], fast["method"], fast["rank"], fast["bits"], fast["ok"]) == ("0", "svd", [16], 32, True)
    assert (slow["layer"], slow["rank"], slow["ok"]) == ("1", [500], False)
    assert fast["factor_ms"] < fast["dense_ms"] == slow["dense_ms"] < slow["factor_ms"]
    assert "factors are slower than the dense layer, modelled: 1" in caplog.text
    words, passed, rows = factors({"factors": found})
    assert not passed
    assert words.endswith("NOT passed by 1 of 2 (times modelled for rpi4, not measured)")
    assert [row.worse for row in rows] == [False, True]
    (tmp_path / "metrics.json").write_text(json.dumps({"factors": found}))
    page = render(tmp_path).read_text()
    assert 'class="warning">No factor layer slower' in page
    found["layers"].pop()
    (tmp_path / "metrics.json").write_text(json.dumps({"factors": found}))
    assert "<p>No factor layer slower than the dense layer: passed" in render(tmp_path).read_text()


def test_a_network_without_factors_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path))

    class Deaf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("it is not run")

    assert check_factors(Deaf(), (torch.zeros(1, 3),), {}, Recipe()) == {}
    assert not list(tmp_path.iterdir())
    (tmp_path / "metrics.json").write_text("{}")
    assert "factor layer" not in render(tmp_path).read_text()
