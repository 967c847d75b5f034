"""Files with few-bit weights compute what the network with the rounded weights computes, in fewer bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from coldpress.errors import ExportError
from coldpress.runtime import weight_only
from coldpress.runtime.dynamic import attribute_of
from coldpress.runtime.onnx import export
from coldpress.runtime.sessions import run, session
from coldpress.runtime.weight_only import store_levels
from tiny import as_if_trained


class Mixed(nn.Module):
    """A convolution with its norm, and linear layers on two and on three dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.inner, self.head = nn.Linear(24, 64), nn.Linear(64, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        return self.head(torch.relu(self.inner(x)).mean(1))


def rounded(low: int, high: int, group: int | None = None) -> tuple[nn.Module, dict[str, np.ndarray]]:
    torch.manual_seed(0)
    model = as_if_trained(Mixed()).eval()
    levels = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.detach()
            integers = torch.randint(low, high + 1, weight.flatten(1).shape)
            groups = 1 if group is None else -(-integers.shape[1] // group)
            scales = (0.05 + torch.rand(len(weight), groups) / 10).repeat_interleave(group or integers.shape[1], 1)
            module.weight = nn.Parameter((integers * scales[:, : integers.shape[1]]).reshape(weight.shape))
            levels[name] = integers.numpy().astype(np.int8)
    return model, levels


@pytest.mark.parametrize(
    ("low", "high", "group"), [(-8, 7, None), (-2, 1, None), (-128, 127, None), (-8, 7, 8), (-8, 7, 16)]
)
def test_the_file_computes_the_same_in_fewer_bytes(tmp_path: Path, low: int, high: int, group: int | None) -> None:
    model, levels = rounded(low, high, group)
    x = torch.rand(4, 3, 6, 6)
    floats = export(model, (x,), tmp_path / "fp32.onnx")
    small = store_levels(floats, tmp_path / "small.onnx", levels, group)
    np.testing.assert_allclose(run(session(small), [x.numpy()])[0], model(x).detach().numpy(), rtol=1e-3, atol=1e-4)
    held = {tensor.name: tensor for tensor in onnx.load(str(small)).graph.initializer}
    stored = sum(len(tensor.raw_data) for name, tensor in held.items() if name.rpartition(".")[0] in levels)
    before = sum(4 * value.size for value in levels.values())
    assert stored < before * (0.4 if high > 7 else 0.55 if group else 0.25)


def test_groups_may_differ_between_layers(tmp_path: Path) -> None:
    model, levels = rounded(-8, 7, 16)
    x = torch.rand(4, 3, 6, 6)
    floats = export(model, (x,), tmp_path / "fp32.onnx")
    small = store_levels(floats, tmp_path / "small.onnx", levels, {"conv": 16, "inner": 16, "head": 8})
    np.testing.assert_allclose(run(session(small), [x.numpy()])[0], model(x).detach().numpy(), rtol=1e-3, atol=1e-4)
    with pytest.raises(ExportError, match="not the levels"):
        store_levels(floats, tmp_path / "s.onnx", levels, {"conv": 16, "inner": 32, "head": 16})


@pytest.mark.parametrize(("low", "high", "bits"), [(-8, 7, 4), (-16, 15, 8), (-128, 127, 8)])
def test_linear_layers_are_multiplied_as_they_are(low: int, high: int, bits: int, tmp_path: Path) -> None:
    if bits == 8 and not weight_only.multiplies_eight_bits():
        pytest.skip("the onnxruntime installed has no MatMulNBits for 8 bits")
    model, levels = rounded(low, high)
    floats = export(model, (torch.rand(1, 3, 6, 6),), tmp_path / "fp32.onnx")
    nodes = onnx.load(str(store_levels(floats, tmp_path / "s.onnx", levels))).graph.node
    multiplied = [node for node in nodes if node.op_type == "MatMulNBits"]
    assert [attribute_of(node, "bits", 0) for node in multiplied] == [bits, bits]
    assert [node.op_type for node in nodes].count("Cast") == 1


def test_where_the_runtime_cannot_multiply_eight_bits_they_become_floats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weight_only, "multiplies_eight_bits", lambda: False)
    model, levels = rounded(-128, 127)
    x = torch.rand(4, 3, 6, 6)
    small = store_levels(export(model, (x,), tmp_path / "fp32.onnx"), tmp_path / "s.onnx", levels)
    assert "MatMulNBits" not in [node.op_type for node in onnx.load(str(small)).graph.node]
    np.testing.assert_allclose(run(session(small), [x.numpy()])[0], model(x).detach().numpy(), rtol=1e-3, atol=1e-4)


def test_other_weights_than_these_levels_are_refused(tmp_path: Path) -> None:
    model, levels = rounded(-8, 7)
    floats = export(model, (torch.rand(1, 3, 6, 6),), tmp_path / "fp32.onnx")
    with pytest.raises(ExportError, match="not the levels"):
        store_levels(floats, tmp_path / "s.onnx", {"inner": np.roll(levels["inner"], 1)})
    with pytest.raises(ExportError, match="no layer 'outer'"):
        store_levels(floats, tmp_path / "s.onnx", {"outer": levels["inner"]})
    assert not (tmp_path / "s.onnx").exists()
