"""ONNX files: their layers are named after modules, and found again by those names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx

from coldpress.errors import ExportError
from coldpress.files import beside
from coldpress.runtime.weights import fold_transposes, share_weights

LAYERS = ("Conv", "Gemm", "MatMul", "ConvTranspose")


def tidy(model: onnx.ModelProto) -> None:
    """Name layers after their modules, and drop what would hinder quantisation or tell of this machine's files."""
    graph = model.graph
    fold_transposes(graph)
    weights = {tensor.name for tensor in graph.initializer}
    calls: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type in LAYERS and (module := _module(node, weights)):
            before = calls.setdefault(module, [])
            before.append(node)
            node.name = module if len(before) == 1 else f"{module}#{len(before)}"
        del node.metadata_props[:]
        node.doc_string = ""
    share_weights(graph, calls.values())
    for tensor in graph.initializer:
        del tensor.metadata_props[:]
    for value in (*graph.input, *graph.output):
        del value.metadata_props[:]
    del graph.metadata_props[:]
    # Shapes that the exporter wrote down stop the quantiser ("Inferred shape and existing shape differ").
    del graph.value_info[:]
    del model.functions[:]


def write_model(model: onnx.ModelProto, path: Path, check: Callable[[Path], None] | None = None) -> None:
    """Write an ONNX file once ``check`` lets it pass. Raises ExportError when it cannot be written."""
    try:
        with beside(path) as place:
            place.write_bytes(model.SerializeToString())
            if check is not None:
                check(place)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error}; choose another folder or free some space") from error


def structure_of(path: str | Path) -> str:
    """Names what a file's speed and size depend on: inputs, operators and shapes, not the weights' values."""
    graph = onnx.load(str(path)).graph
    digest = hashlib.sha256()

    def add(tensor: onnx.TensorProto) -> None:
        digest.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)};".encode())
        if tensor.data_type == onnx.TensorProto.INT64:  # shapes, axes and pads
            digest.update(onnx.numpy_helper.to_array(tensor).tobytes())

    for tensor in sorted(graph.initializer, key=lambda tensor: str(tensor.name)):
        add(tensor)
    for value in (*graph.input, *graph.output):
        digest.update(value.type.SerializeToString(deterministic=True))
    for node in graph.node:
        digest.update(f"{node.op_type} {list(node.input)} {list(node.output)};".encode())
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                add(attribute.t)
            else:
                digest.update(attribute.SerializeToString(deterministic=True))
    return digest.hexdigest()[:24]


def file_bytes(path: str | Path) -> int:
    """Size of the file, weights included."""
    return Path(path).stat().st_size


def weight_nodes(model: onnx.ModelProto | str | Path, module_names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The nodes that carry each module's weight, one for each call: module name to node names, for those found.

    Works by the weight's name ("fc.weight"), else by the node's name as ``export`` sets it.
    """
    graph = (model if isinstance(model, onnx.ModelProto) else onnx.load(str(model))).graph
    by_module: dict[str, list[str]] = {}
    for node in graph.node:
        if node.op_type not in LAYERS:
            continue
        for name in {*(value.removesuffix(".weight") for value in node.input[1:2]), node.name.partition("#")[0]}:
            by_module.setdefault(name, []).append(node.name)
    return {name: tuple(by_module[name]) for name in module_names if name in by_module}


def _module(node: onnx.NodeProto, weights: set[str]) -> str | None:
    """The module whose weight a layer's node uses; None for a product of two activations."""
    held = [name for name in node.input if name in weights]
    for name in held:
        if name.endswith(".weight"):
            return name.removesuffix(".weight")
    scopes = next((entry.value for entry in node.metadata_props if entry.key == "pkg.torch.onnx.name_scopes"), "")
    parts = [part.strip(" '\"") for part in scopes.strip("[]").split(",")]
    return parts[-2] if held and len(parts) > 1 and parts[-2] else None
