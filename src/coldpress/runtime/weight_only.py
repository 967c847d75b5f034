"""Weights stored as few-bit integers in an ONNX file; inputs and sums stay floats. Smaller files that run anywhere.

Linear layers become ONNX Runtime's MatMulNBits, which reads weights of 4 bits, or of 8, as they are. Convolutions have
no such kernel: their integers, in the file no larger than they are, become floats once, when it is loaded. Inputs stay
floats, so this is size, not speed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, version_converter

from coldpress.errors import ExportError
from coldpress.runtime.dynamic import attribute_of, is_linear
from coldpress.runtime.onnx_files import weight_nodes, write_model
from coldpress.runtime.weights import drop

OPSET = 21
"""The first one with 4-bit integers."""
BLOCKS = (16, 32, 64, 128, 256)
"""Columns that share a scale, as MatMulNBits takes them."""
TOLERANCE = 1e-3

Levels = NDArray[np.int8]
Floats = NDArray[np.float32]


def store_levels(
    fp32_path: str | Path,
    path: str | Path,
    layers: Mapping[str, Levels],
    group_size: int | Mapping[str, int] | None = None,
) -> Path:
    """Write a copy of an ONNX model whose named layers' weights are stored as integers, of 4 or 8 bits, and scales.

    Args:
        fp32_path: a model written by ``export``, whose weights are levels times scales already.
        path: the file to write; may be the same.
        layers: module name to its levels ``(rows, columns)``, -8 to 7, or beyond, which takes 8 bits.
        group_size: columns that share a scale, of all layers or by name; a row's last group may have fewer; None: a
            whole row does.

    Raises:
        ExportError: a layer is not there, its weights are not these levels times scales, or the file cannot be written.
    """
    model = onnx.load(str(fp32_path))
    if next(entry.version for entry in model.opset_import if not entry.domain) < OPSET:
        model = version_converter.convert_version(model, OPSET)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes = {node.name: node for node in graph.node}
    found = weight_nodes(model, list(layers))
    written: dict[str, list[onnx.NodeProto]] = {}
    stored: dict[str, str] = {}
    for name, levels in layers.items():
        given = group_size.get(name) if isinstance(group_size, Mapping) else group_size
        size = min(given or levels.shape[1], levels.shape[1])
        for call in found.get(name, ()):
            node = nodes[call]
            if node.input[1] not in tensors:
                break
            written[call] = _stored(graph, node, tensors, levels, size, stored)
        else:
            if name in found:
                continue
        raise ExportError(f"the file has no layer {name!r} with constant weights: was it exported from this network?")
    after = [own for node in graph.node for own in written.get(node.name, [node])]
    del graph.node[:]
    graph.node.extend(after)
    drop(graph, list(stored))
    if any(node.domain == "com.microsoft" for node in after):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.ir_version = max(model.ir_version, 10)
    write_model(model, Path(path))
    return Path(path)


def _stored(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    tensors: Mapping[str, onnx.TensorProto],
    levels: Levels,
    size: int,
    stored: dict[str, str],
) -> list[onnx.NodeProto]:
    """The nodes in a layer's place; what they read is added to the graph once for each weight."""
    weight = str(node.input[1])
    array = numpy_helper.to_array(tensors[weight])
    turned = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute_of(node, "transB", 0))
    matrix = array.T if turned else array.reshape(len(array), -1)
    if matrix.shape != levels.shape:
        raise ExportError(f"{weight!r} is {matrix.shape} in the file, its levels are {levels.shape}")
    scales = _scales(weight, matrix, levels, size)
    small = bool(levels.min(initial=0) >= -8 and levels.max(initial=0) <= 7)
    bits = 4 if small else 8
    block = _block(levels.shape[1], bits) if scales.shape[1] == 1 else size
    if is_linear(node) and block in BLOCKS and (small or multiplies_eight_bits()):
        if weight not in stored:
            stored[weight] = "MatMulNBits"
            packed, each = _packed(levels, scales, block, bits)
            graph.initializer.append(numpy_helper.from_array(packed, f"{weight}_packed"))
            graph.initializer.append(numpy_helper.from_array(each, f"{weight}_scale"))
        return _multiplied(node, weight, levels.shape, block, bits)
    changed = onnx.NodeProto()
    changed.CopyFrom(node)
    changed.input[1] = f"{weight}_floats"
    if weight in stored:
        return [changed]
    stored[weight] = "Cast"
    rows, columns = levels.shape
    missing = -columns % size
    padded = np.pad(levels, ((0, 0), (0, missing)))
    form = array.shape[::-1] if turned else array.shape
    constants = {
        "levels": _integers(f"{weight}_levels", padded.reshape(*scales.shape, -1), small),
        "scale": numpy_helper.from_array(scales[:, :, None], f"{weight}_scale"),
        "shape": _numbers(f"{weight}_shape", *form),
    }
    if missing:
        constants["rows"] = _numbers(f"{weight}_rows", rows, columns + missing)
        constants |= {name: _numbers(f"{weight}_{name}", n) for name, n in (("from", 0), ("to", columns), ("axis", 1))}
    graph.initializer.extend(constants.values())
    return [*_floats(weight, turned, bool(missing)), changed]


def _numbers(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _floats(weight: str, turned: bool, cut: bool) -> list[onnx.NodeProto]:
    """Nodes from integers to floats; a runtime does them once, as it loads the file (those of QDQ it would not).

    Args:
        weight: name of the tensor.
        turned: whether the layer reads it transposed.
        cut: whether its last group of columns was padded.
    """
    levels, whole, scaled, formed = (f"{weight}_{name}" for name in ("levels", "whole", "scaled", "formed"))
    last = formed if turned else f"{weight}_floats"
    found = [
        helper.make_node("Cast", [levels], [whole], name=whole, to=TensorProto.FLOAT),
        helper.make_node("Mul", [whole, f"{weight}_scale"], [scaled], name=scaled),
    ]
    if cut:
        flat, scaled = f"{weight}_flat", f"{weight}_cut"
        found.append(helper.make_node("Reshape", [f"{weight}_scaled", f"{weight}_rows"], [flat], name=flat))
        bounds = [f"{weight}_{name}" for name in ("from", "to", "axis")]
        found.append(helper.make_node("Slice", [flat, *bounds], [scaled], name=scaled))
    found.append(helper.make_node("Reshape", [scaled, f"{weight}_shape"], [last], name=formed))
    if turned:
        found.append(helper.make_node("Transpose", [last], [f"{weight}_floats"], name=f"{weight}_turned", perm=[1, 0]))
    return found


def _integers(name: str, levels: Levels, small: bool) -> onnx.TensorProto:
    """Levels as a tensor of 4 bits each, the first of two low, or of 8."""
    if not small:
        return numpy_helper.from_array(levels, name)
    flat = np.append(levels.ravel(), np.zeros(levels.size % 2, np.int8)).astype(np.uint8) & 15
    return helper.make_tensor(
        name, TensorProto.INT4, levels.shape, (flat[0::2] | (flat[1::2] << 4)).tobytes(), raw=True
    )


def _scales(name: str, matrix: NDArray[Any], levels: Levels, size: int) -> Floats:
    """The scales ``(rows, groups)`` that make the levels the file's weights, into which norms may have been folded."""
    columns = levels.shape[1]
    starts = range(0, columns, size)
    q, w = levels.astype(np.float64), matrix.astype(np.float64)
    above = np.add.reduceat(q * w, starts, axis=1)
    below = np.add.reduceat(q * q, starts, axis=1)
    scales = np.where(below > 0, above / np.maximum(below, 1.0), 1.0)
    error = np.abs(np.repeat(scales, size, axis=1)[:, :columns] * q - w).max(initial=0.0)
    if error > TOLERANCE * max(np.abs(w).max(initial=0.0), 1e-12):
        raise ExportError(f"the weights {name!r} in the file are not the levels given times scales")
    return scales.astype(np.float32)


@cache
def multiplies_eight_bits() -> bool:
    """Whether the runtime that is installed has MatMulNBits for 8 bits: older ones, which have it for 4, do not."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, n]) for name, n in (("x", 16), ("y", 1))]
    packed, scales = _packed(np.ones((1, 16), np.int8), np.ones((1, 1), np.float32), 16, 8)
    weights = [numpy_helper.from_array(packed, "w_packed"), numpy_helper.from_array(scales, "w_scale")]
    nodes = _multiplied(helper.make_node("MatMul", ["x", "w"], ["y"], name="try"), "w", (1, 16), 16, 8)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    graph = helper.make_graph(nodes, "try", values[:1], values[1:], weights)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it does not have is no error here
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"x": np.ones((1, 16), np.float32)})
    except Exception:  # the runtime's own errors have no common class
        return False
    return bool(abs(found.item() - 16) < TOLERANCE)


def _block(columns: int, bits: int) -> int:
    """The size of block that takes the fewest bytes where one scale is repeated in all blocks of a row."""
    return min(BLOCKS, key=lambda block: -(-columns // block) * (block * bits // 8 + 4))


def _packed(levels: Levels, scales: Floats, block: int, bits: int) -> tuple[NDArray[np.uint8], Floats]:
    """MatMulNBits' form: ``(rows, blocks, block * bits / 8)``, of 4 bits two a byte, the first low; a scale a block."""
    rows, columns = levels.shape
    blocks, zero = -(-columns // block), 2 ** (bits - 1)
    padded = np.full((rows, blocks * block), zero, np.uint8)
    padded[:, :columns] = (levels.astype(np.int16) + zero).astype(np.uint8)
    each = np.broadcast_to(scales, (rows, blocks)) if scales.shape[1] == 1 else scales
    repeated = np.ascontiguousarray(each).ravel()
    if bits == 8:
        return padded.reshape(rows, blocks, block), repeated
    pairs = padded.reshape(rows, blocks, block // 2, 2)
    return pairs[..., 0] | (pairs[..., 1] << 4), repeated


def _multiplied(
    node: onnx.NodeProto, weight: str, shape: tuple[int, ...], block: int, bits: int
) -> list[onnx.NodeProto]:
    bias = list(node.input[2:])
    (output,) = node.output
    product = f"{output}_product" if bias else output
    inputs = [node.input[0], f"{weight}_packed", f"{weight}_scale"]
    outputs, columns = shape
    made = helper.make_node(
        "MatMulNBits",
        inputs,
        [product],
        name=node.name,
        domain="com.microsoft",
        K=columns,
        N=outputs,
        bits=bits,
        block_size=block,
    )
    return [made, *(helper.make_node("Add", [product, b], [output], name=f"{node.name}_bias") for b in bias)]
