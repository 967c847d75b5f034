"""Exported equals eager, for any batch size, and what cannot be exported says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from coldpress.errors import ExportError
from coldpress.runtime import export, file_bytes, run, session, weight_nodes
from coldpress.runtime.onnx_files import structure_of

from .nets import Again, Branching, Dict, Wide, residual


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(residual(), (torch.zeros(1, 3, 8, 8),), tmp_path_factory.mktemp("onnx") / "model.onnx")


def test_outputs_equal_pytorch_for_batches_it_was_not_exported_with(exported: Path) -> None:
    model = residual().eval()
    running = session(exported)
    for batch in (1, 5):
        x = torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            wanted = model(x).numpy()
        np.testing.assert_allclose(run(running, {"input": x.numpy()})[0], wanted, rtol=1e-4, atol=1e-5)


def test_structure_is_of_shapes_and_not_of_values(exported: Path, tmp_path: Path) -> None:
    changed, wider = residual(), residual()
    with torch.no_grad():
        for p in changed.parameters():
            p.mul_(1.5)
    inputs = (torch.zeros(1, 3, 8, 8),)
    assert structure_of(export(changed, inputs, tmp_path / "changed.onnx")) == structure_of(exported)
    assert structure_of(export(residual(), (torch.zeros(1, 3, 16, 16),), tmp_path / "larger.onnx")) != structure_of(
        exported
    )
    layer = next(m for m in wider.modules() if isinstance(m, torch.nn.Linear))
    layer.weight, layer.bias = torch.nn.Parameter(layer.weight[:-1]), torch.nn.Parameter(layer.bias[:-1])
    assert structure_of(export(wider, inputs, tmp_path / "wider.onnx")) != structure_of(exported)


def test_names_and_size(exported: Path) -> None:
    graph = onnx.load(exported).graph
    assert [value.name for value in graph.input] == ["input"]
    assert [value.name for value in graph.output] == ["logits"]
    assert file_bytes(exported) == exported.stat().st_size > 4 * sum(p.numel() for p in residual().parameters()) * 0.9


def test_every_layer_is_found_by_its_module_after_batch_norms_are_fused(exported: Path) -> None:
    names = ["stem", "first", "second", "head"]
    nodes = weight_nodes(exported, [*names, "bn1", "nothing"])
    assert list(nodes) == names
    kinds = {node.name: node.op_type for node in onnx.load(exported).graph.node}
    assert [[kinds[node] for node in nodes[name]] for name in names] == [["Conv"], ["Conv"], ["Conv"], ["Gemm"]]
    assert "BatchNormalization" not in kinds.values()


def test_nothing_of_this_machine_is_written(exported: Path) -> None:
    assert str(Path(__file__).parent).encode() not in exported.read_bytes()


def test_two_inputs_and_a_tuple(tmp_path: Path) -> None:
    model = Wide()
    a, b = torch.randn(2, 5, 6), torch.randn(2, 5, 8)
    path = export(model, (a, b), tmp_path / "wide.onnx")
    found = run(session(path), [a.numpy(), b.numpy()])
    with torch.no_grad():
        for wanted, got in zip(model(a, b), found, strict=True):
            np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-4, atol=1e-5)
    assert [value.name for value in session(path).get_inputs()] == ["input", "input_1"]
    assert set(weight_nodes(path, ["mix", "head"])) == {"mix", "head"}


def test_the_weights_of_a_layer_that_is_called_again_are_stored_once(tmp_path: Path) -> None:
    path = export(Again(), (torch.randn(2, 4, 200),), tmp_path / "again.onnx")
    assert 4 * 200 * 201 < file_bytes(path) < 1.1 * 4 * 200 * 201
    assert weight_nodes(path, ["mix"]) == {"mix": ("mix", "mix#2", "mix#3")}
    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    assert all(set(node.input) & constants for node in graph.node if node.op_type == "MatMul")


def test_training_mode_is_restored(tmp_path: Path) -> None:
    model = residual().train()
    model.bn1.eval()
    export(model, (torch.zeros(1, 3, 8, 8),), tmp_path / "model.onnx")
    assert model.training
    assert model.first.training
    assert not model.bn1.training


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (Dict(), (torch.zeros(1, 2),), "returns a dict"),
        (Branching(), (torch.zeros(1, 2),), "cannot be exported"),
        (residual(), (torch.zeros(1, 5, 8, 8),), "does not run on inputs of shape"),
        (residual(), (), "example_inputs is empty"),
    ],
)
def test_what_cannot_be_exported_says_why(
    model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=message):
        export(model, inputs, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_nan_weights_are_refused(tmp_path: Path) -> None:
    model = residual()
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    with pytest.raises(ExportError, match="differ from PyTorch"):
        export(model, (torch.zeros(1, 3, 8, 8),), tmp_path / "model.onnx")
