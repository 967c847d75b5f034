"""Tables of embeddings stored in int8: rows are looked up as integers and become floats after."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from coldpress.errors import ExportError
from coldpress.runtime.onnx_files import write_model


def round_tables(path: str | Path, weights: Collection[str]) -> None:
    """Round tables in an ONNX file, in place, to int8 with one scale a feature.

    Args:
        path: the file.
        weights: names of the initializers, ``(rows, features)``, that Gather nodes read.

    Raises:
        ExportError: an initializer is not there, or something else than a Gather reads it.
    """
    model = onnx.load(str(path))
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes = list(graph.node)
    for name in weights:
        readers = [node for node in nodes if name in node.input]
        if name not in tensors or len(readers) != 1 or readers[0].op_type != "Gather":
            raise ExportError(f"{name!r} is no table that one look-up reads: leave it at 32 bits")
        table = numpy_helper.to_array(tensors[name])
        scale = np.maximum(np.abs(table).max(axis=0), 1e-12).astype(np.float32) / np.float32(127)
        rounded = np.clip(np.rint(table / scale), -127, 127).astype(np.int8)
        tensors[name].CopyFrom(numpy_helper.from_array(rounded, name))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}_scale"))
        look_up = readers[0]
        floats = look_up.output[0]
        look_up.output[0] = f"{floats}_int8"
        back = helper.make_node(
            "DequantizeLinear", [look_up.output[0], f"{name}_scale"], [floats], name=f"{look_up.name}_back", axis=-1
        )
        nodes.insert(nodes.index(look_up) + 1, back)
    del graph.node[:]
    graph.node.extend(nodes)
    write_model(model, Path(path))
