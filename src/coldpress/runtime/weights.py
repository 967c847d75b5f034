"""Layers' weights in an exported graph: each stored once, however often its layer is called, and ready to be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper


def fold_transposes(graph: onnx.GraphProto) -> None:
    """Store weights as they are read, where the exporter left large ones of several calls to a Transpose each.

    A weight that something else reads too, a table of embeddings say, stays as it is.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    turned = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "Transpose" and node.input[0] in weights and node.output[0] not in outputs
    }
    elsewhere = {name for node in graph.node if node.output[0] not in turned for name in node.input}
    turned = {output: node for output, node in turned.items() if node.input[0] not in elsewhere}
    names: dict[str, str] = {}
    done: set[tuple[str, tuple[int, ...]]] = set()
    for output, node in turned.items():
        source = node.input[0]
        array = numpy_helper.to_array(weights[source])
        axes = next((tuple(a.ints) for a in node.attribute if a.name == "perm"), tuple(range(array.ndim))[::-1])
        name = names[output] = f"{source}_{'x'.join(map(str, axes))}"
        if (source, axes) not in done:
            done.add((source, axes))
            graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array.transpose(axes)), name))
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
    sources = [node.input[0] for node in turned.values()]
    left = [node for node in graph.node if node.output[0] not in turned]
    del graph.node[:]
    graph.node.extend(left)
    drop(graph, sources)


def share_weights(graph: onnx.GraphProto, calls: Iterable[Sequence[onnx.NodeProto]]) -> None:
    """Let all calls of a module read the constants of the first one, where the exporter wrote equal ones again.

    Args:
        graph: changed in place.
        calls: the nodes of each module, in the order of its calls.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer}
    replaced: list[str] = []
    for first, *others in calls:
        for node in others:
            for i, (own, other) in enumerate(zip(node.input, first.input)):
                if own != other and _equal(weights, own, other):
                    node.input[i] = other
                    replaced.append(own)
    drop(graph, replaced)


def drop(graph: onnx.GraphProto, names: Iterable[str]) -> None:
    """Remove constants that no node reads any more, of those named."""
    gone = set(names) - {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name not in gone]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _equal(weights: Mapping[str, onnx.TensorProto], one: str, other: str) -> bool:
    if one not in weights or other not in weights:
        return False
    a, b = (numpy_helper.to_array(weights[name]) for name in (one, other))
    return bool(a.dtype == b.dtype and np.array_equal(a, b))
