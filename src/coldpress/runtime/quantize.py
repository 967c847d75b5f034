"""Static int8 in QDQ form: chosen layers, and what lies between them, stay in integers."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from coldpress.errors import ExportError
from coldpress.runtime.calibrate import Method, ranges
from coldpress.runtime.onnx_files import write_model

log = logging.getLogger("coldpress.runtime")

LAYERS = ("Conv", "Gemm", "MatMul")
# Operators that ONNX Runtime runs on uint8 tensors, so that two int8 layers need not meet in floats.
BETWEEN = (
    *("Relu", "Clip", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Pad"),
)


def quantize(
    fp32_path: str | Path,
    int8_path: str | Path,
    calibration_arrays: Iterable[dict[str, NDArray[Any]]],
    nodes: Collection[str] | None = None,
    *,
    method: Method = "mse",
) -> Path:
    """Write a copy of an ONNX model whose chosen layers run in int8.

    Activations are uint8 with one scale a tensor, weights int8 with one scale an output channel: the pair for which
    x86 kernels are fast. The same file in and the same data give the same file out.

    Args:
        fp32_path: a model written by ``export``.
        int8_path: the file to write; written beside and renamed.
        calibration_arrays: batches, input name to array.
        nodes: names of Conv, Gemm and MatMul nodes; None is all that have constant weights.
        method: how the activations' ranges are found, see ``calibrate.ranges``.

    Returns:
        int8_path.

    Raises:
        ExportError: a node is not there, there is no calibration data, or the file cannot be written.
    """
    model = onnx.load(str(fp32_path))
    del model.graph.value_info[:]
    _pool_globally(model.graph)
    chosen = _chosen(model.graph, nodes)
    path = Path(int8_path)
    if chosen:
        kept = chosen | _between(model.graph, chosen)
        model = _quantized(model, kept, calibration_arrays, method)
    write_model(model, path)
    return path


def _chosen(graph: onnx.GraphProto, nodes: Collection[str] | None) -> set[str]:
    constants = {tensor.name for tensor in graph.initializer}
    able = {
        node.name
        for node in graph.node
        if node.op_type in LAYERS and any(name in constants for name in list(node.input)[:2])
    }
    if nodes is None:
        return able
    for name in nodes:
        if name not in able:
            raise ExportError(
                f"{name!r} is no layer that can run in int8; allowed are Conv, Gemm and MatMul nodes with constant "
                f"weights: {', '.join(sorted(able))}"
            )
    return set(nodes)


def _between(graph: onnx.GraphProto, chosen: set[str]) -> set[str]:
    """Nodes all of whose data comes out of int8 nodes: they need no floats of their own."""
    constants = {tensor.name for tensor in graph.initializer}
    constants |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    integer: set[str] = set()
    found: set[str] = set()
    for node in graph.node:  # in topological order
        data = [name for name in node.input if name and name not in constants]
        if node.name in chosen:
            integer |= set(node.output)
        elif node.op_type in BETWEEN and data and all(name in integer for name in data):
            # A constant operand (a scale, say) would have to be quantised with it: leave those in floats.
            if node.op_type in ("Add", "Mul", "Concat") and len(data) < len(node.input):
                continue
            found.add(node.name)
            integer |= set(node.output)
    return found


def _pool_globally(graph: onnx.GraphProto) -> None:
    """Means over height and width as GlobalAveragePool, which has an int8 kernel where ReduceMean has none."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in constants:
            continue
        axes = sorted(onnx.numpy_helper.to_array(constants[node.input[1]]).tolist())
        keep = next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1)
        if axes in ([2, 3], [-2, -1]) and keep == 1:
            node.op_type = "GlobalAveragePool"
            del node.input[1:]
            del node.attribute[:]


def _quantized(
    model: onnx.ModelProto, kept: set[str], batches: Iterable[dict[str, NDArray[Any]]], method: Method
) -> onnx.ModelProto:
    constants = {tensor.name for tensor in model.graph.initializer}
    tensors = [
        name
        for node in model.graph.node
        if node.name in kept
        for name in (*node.input, *node.output)
        if name and name not in constants
    ]
    found = ranges(model, list(dict.fromkeys(tensors)), batches, method)
    data = {
        name: TensorData(lowest=np.array([low], np.float32), highest=np.array([high], np.float32))
        for name, (low, high) in found.items()
    }
    types = sorted({node.op_type for node in model.graph.node if node.name in kept})
    previous = logging.root.level
    try:
        logging.root.setLevel(logging.ERROR)  # the quantiser reports through the root logger
        with contextlib.redirect_stdout(io.StringIO()):
            quantizer = QDQQuantizer(
                model,
                True,
                False,
                QuantType.QInt8,
                QuantType.QUInt8,
                TensorsData(CalibrationMethod.MinMax, data),
                sorted(kept),
                [],
                types,
                {"ForceQuantizeNoInputCheck": False},
            )
            quantizer.quantize_model()
    except Exception as error:
        raise ExportError(f"the model cannot be quantised to int8: {error}; leave its layers at 32 bits") from error
    finally:
        logging.root.setLevel(previous)
    result: onnx.ModelProto = quantizer.model.model
    del result.graph.value_info[:]
    _guard(result.graph, kept, found)
    return result


def _guard(graph: onnx.GraphProto, kept: set[str], found: dict[str, tuple[float, float]]) -> None:
    """Keep the layers that were not chosen in floats.

    ONNX Runtime quantises a float layer between a DequantizeLinear and a QuantizeLinear by itself, its weights with
    one scale for all: cheaper than what was measured, and less accurate. A Clip to the range that the input has
    anyway hides the pattern from it.
    """
    producers = {name: node for node in graph.node for name in node.output}
    guards: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        before = producers.get(node.input[0]) if node.op_type in LAYERS and node.name not in kept else None
        if before is not None and before.op_type == "DequantizeLinear":
            source = node.input[0]
            if source not in guards:
                guards[source] = f"{source}_in_range"
                low, high = found.get(source.removesuffix("_DequantizeLinear_Output"), (-1e38, 1e38))
                # Twice the range: zero points and scales are rounded, and nothing may really be cut.
                limits = [f"{source}_low", f"{source}_high"]
                for name, value in zip(limits, (2 * low, 2 * high)):
                    graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
                clip = onnx.helper.make_node("Clip", [source, *limits], [guards[source]], name=guards[source])
                nodes.append(clip)
            node.input[0] = guards[source]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
