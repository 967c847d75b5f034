"""int8 where it was asked for and nowhere else, the same file every time, close to the float model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch

from coldpress.errors import ExportError
from coldpress.runtime import export, quantize, run, session
from coldpress.runtime.calibrate import Method

from .nets import residual

LAYERS = ("stem", "first", "second", "head")


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(residual(), (torch.zeros(1, 3, 8, 8),), tmp_path_factory.mktemp("int8") / "model.onnx")


def data(count: int = 4) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"input": rng.standard_normal((8, 3, 8, 8), dtype=np.float32)} for _ in range(count)]


def operators(path: Path, folder: Path) -> Counter[str]:
    """As the runtime will run them."""
    session(path, optimised_path=folder / "optimised.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def test_a_whole_network_stays_in_integers_from_its_input_to_its_output(fp32: Path, tmp_path: Path) -> None:
    found = operators(quantize(fp32, tmp_path / "int8.onnx", data()), tmp_path)
    assert found["QLinearConv"] == 3
    assert found["QLinearAdd"] == found["QLinearGlobalAveragePool"] == found["QGemm"] == 1
    assert found["QuantizeLinear"] == found["DequantizeLinear"] == 1
    assert not set(found) & {"Conv", "Gemm", "Add", "Relu", "FusedConv"}


@pytest.mark.parametrize("chosen", [("stem", "second"), ("first",), ("stem", "second", "head"), ("first", "head")])
def test_only_the_chosen_layers_run_in_int8(fp32: Path, tmp_path: Path, chosen: tuple[str, ...]) -> None:
    found = operators(quantize(fp32, tmp_path / "int8.onnx", data(), chosen), tmp_path)
    assert found["QLinearConv"] + found["QGemm"] == len(chosen)
    assert found["Conv"] + found["Gemm"] + found["FusedGemm"] == len(LAYERS) - len(chosen)


@pytest.mark.parametrize("method", get_args(Method))
def test_outputs_stay_close(fp32: Path, tmp_path: Path, method: Method) -> None:
    path = quantize(fp32, tmp_path / "int8.onnx", data(), method=method)
    batch = data(1)[0]
    wanted, found = run(session(fp32), batch)[0], run(session(path), batch)[0]
    assert np.square(found - wanted).mean() < 0.02 * np.square(wanted - wanted.mean(0)).mean() + 1e-5


def test_same_data_same_file(fp32: Path, tmp_path: Path) -> None:
    first, second = (quantize(fp32, tmp_path / name, data()).read_bytes() for name in ("a.onnx", "b.onnx"))
    assert first == second


def test_no_node_chosen_leaves_the_outputs_as_they_are(fp32: Path, tmp_path: Path) -> None:
    path = quantize(fp32, tmp_path / "int8.onnx", [], [])
    batch = data(1)[0]
    np.testing.assert_allclose(run(session(path), batch)[0], run(session(fp32), batch)[0], rtol=1e-5, atol=1e-6)


def test_bad_input_is_refused(fp32: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'conv9' is no layer"):
        quantize(fp32, tmp_path / "int8.onnx", data(), ["conv9"])
    with pytest.raises(ExportError, match="no calibration data"):
        quantize(fp32, tmp_path / "int8.onnx", [])
    bad = data(1)
    bad[0]["input"][0, 0, 0, 0] = np.nan
    with pytest.raises(ExportError, match="NaN or infinite"):
        quantize(fp32, tmp_path / "int8.onnx", bad)
    assert not (tmp_path / "int8.onnx").exists()
