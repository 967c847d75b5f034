"""Dynamic int8: weights are stored in integers, inputs are rounded as each run finds them, outputs are floats."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from coldpress.errors import ExportError
from coldpress.runtime.onnx_files import write_model
from coldpress.runtime.weights import drop

LAYERS = ("Gemm", "MatMul")


def round_dynamically(fp32_path: str | Path, path: str | Path, nodes: Collection[str]) -> Path:
    """Write a copy of an ONNX model whose chosen layers round their inputs at run time.

    Weights are int8 with one scale an output channel; inputs are uint8 over the range that they have in a run. ONNX
    Runtime fuses what is written here into one operator. Layers that share a weight share its integers.

    Args:
        fp32_path: a model written by ``export``.
        path: the file to write; may be the same.
        nodes: names of Gemm and MatMul nodes with constant weights.

    Raises:
        ExportError: a node is not there or cannot be rounded, or the file cannot be written.
    """
    model = onnx.load(str(fp32_path))
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    able = {node.name: node for node in graph.node if _weight_of(node, tensors) is not None}
    for name in nodes:
        if name not in able:
            raise ExportError(
                f"{name!r} is no layer that can run in dynamic int8; allowed are Gemm and MatMul nodes with constant "
                f"weights: {', '.join(sorted(able))}"
            )
    weights = {str(able[name].input[1]): able[name] for name in nodes}
    for weight, node in weights.items():
        matrix = numpy_helper.to_array(tensors[weight])
        integers, scales = rounded_columns(matrix.T if attribute_of(node, "transB", 0) else matrix)
        graph.initializer.append(numpy_helper.from_array(integers, f"{weight}_int8"))
        graph.initializer.append(numpy_helper.from_array(scales, f"{weight}_scale"))
    written: list[onnx.NodeProto] = []
    for node in graph.node:
        written += dynamic_layer(node) if node.name in nodes else [node]
    del graph.node[:]
    graph.node.extend(written)
    drop(graph, weights)
    write_model(model, Path(path))
    return Path(path)


def depends_on_batch(path: str | Path) -> bool:
    """Whether a sample's output depends on what it is run together with: some layer rounds over the range of a run."""
    return any(node.op_type == "DynamicQuantizeLinear" for node in onnx.load(str(path)).graph.node)


def dynamic_layer(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """The nodes in the place of a Gemm or MatMul, whose weight is now ``NAME_int8`` and ``NAME_scale``."""
    source, weight, *bias = node.input
    (output,), name = node.output, node.name
    product = f"{name}_scaled" if bias else output

    def made(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, outputs, name=f"{name}_{kind}_{outputs[0]}", **attributes)

    integer, step, zero = f"{name}_uint8", f"{name}_step", f"{name}_zero"
    found = [
        made("DynamicQuantizeLinear", [source], [integer, step, zero]),
        made("MatMulInteger", [integer, f"{weight}_int8", zero], [f"{name}_int32"]),
        made("Cast", [f"{name}_int32"], [f"{name}_whole"], to=TensorProto.FLOAT),
        made("Mul", [step, f"{weight}_scale"], [f"{name}_scales"]),
        made("Mul", [f"{name}_whole", f"{name}_scales"], [product]),
    ]
    return found + ([made("Add", [product, bias[0]], [output])] if bias else [])


def _weight_of(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> onnx.TensorProto | None:
    """The constant matrix of a layer that is nothing but ``x W + b``."""
    if not is_linear(node) or node.input[1] not in tensors:
        return None
    weight = tensors[node.input[1]]
    return weight if len(weight.dims) == 2 else None


def is_linear(node: onnx.NodeProto) -> bool:
    """Whether a node is nothing but ``x W + b``."""
    if node.op_type not in LAYERS or attribute_of(node, "transA", 0):
        return False
    return all(attribute_of(node, name, 1.0) == 1.0 for name in ("alpha", "beta"))


def attribute_of(node: onnx.NodeProto, name: str, default: float) -> Any:
    """A node's attribute, or what holds where it has none."""
    found = [helper.get_attribute_value(attribute) for attribute in node.attribute if attribute.name == name]
    return found[0] if found else default


def rounded_columns(matrix: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers and one scale for each column of a matrix ``(inputs, outputs)``."""
    scales = (np.maximum(np.abs(matrix).max(axis=0), 1e-12) / 127).astype(np.float32)
    return np.clip(np.rint(matrix / scales), -127, 127).astype(np.int8), scales
