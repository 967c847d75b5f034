"""Time layers as a network meets them: many in one graph, so that each finds the caches as the others left them."""

from __future__ import annotations

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from coldpress.plan import LayerShape
from coldpress.runtime.sessions import session

# What a layer may become when the runtime has rewritten the graph; everything else in the graph is scaffolding.
_LAYERS = re.compile(r"(Conv|Gemm|MatMul|Linear)", re.IGNORECASE)
_NAMED = re.compile(r"\blayer(\d+)_")


class Bench:
    """A session that holds several layers side by side and knows the time of each.

    Args:
        shapes: dense layers.
        threads: threads within one operator.
        batch: samples in one run.
        seed: of weights and inputs.
    """

    def __init__(self, shapes: Sequence[LayerShape], *, threads: int = 1, batch: int = 1, seed: int = 0) -> None:
        self._count = len(shapes)
        self._folder = tempfile.TemporaryDirectory(prefix="coldpress-")
        model, self._feeds = graph(shapes, batch=batch, seed=seed)
        self._session = session(
            model.SerializeToString(), threads, profile_prefix=str(Path(self._folder.name) / "profile")
        )

    def run(self, repeats: int) -> None:
        """Run all layers ``repeats`` times."""
        for _ in range(repeats):
            self._session.run(None, self._feeds)

    def close(self) -> list[float]:
        """End, and return each layer's median time in seconds; NaN for one that was not found."""
        with self._folder:
            events = json.loads(Path(self._session.end_profiling()).read_text())
        samples: dict[int, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for event in events:
            name = str(event.get("name", ""))
            found = _NAMED.search(name)
            if found and name.endswith("_kernel_time") and _LAYERS.search(event["args"]["op_name"]):
                samples[int(found[1])][name].append(event["dur"] * 1e-6)
        return [
            sum(_typical(times) for times in samples[i].values()) if samples[i] else float("nan")
            for i in range(self._count)
        ]


def _typical(times: list[float]) -> float:
    """The mean of the middle half: the clock ticks in whole microseconds, so that a median would too."""
    ordered = np.sort(times[1:] or times)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def graph(
    shapes: Sequence[LayerShape], *, batch: int = 1, seed: int = 0
) -> tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]:
    """A model that runs every layer once, and its inputs.

    Each layer's input is written right before it, as a network's is; int8 layers lie between uint8 tensors.
    """
    rng = np.random.default_rng(seed)
    parts = _Parts()
    feeds: dict[str, NDArray[np.float32]] = {}
    for i, shape in enumerate(shapes):
        dims = _input_dims(shape, batch)
        source = "input_" + "x".join(str(n) for n in dims)
        if source not in feeds:
            feeds[source] = rng.random(dims, dtype=np.float32)
        # A factor of its own keeps the runtime from sharing one copy of the input between layers.
        fresh = parts.node("Mul", [source, parts.constant(np.float32(1 + i / 1024))], f"feed{i}")
        weight = (
            rng.standard_normal(_weight_dims(shape), dtype=np.float32) / float(prod(_weight_dims(shape)[1:])) ** 0.5
        )
        bias = rng.standard_normal(shape.out_channels, dtype=np.float32)
        before = parts.rounded(fresh, f"before{i}") if shape.bits == 8 else fresh
        tensors = [before, *parts.weights(weight, bias, shape.bits, f"w{i}")]
        attributes: dict[str, Any] = {"transB": 1}
        if shape.kind == "conv":
            attributes = {
                "kernel_shape": shape.kernel,
                "strides": shape.stride,
                "pads": (*shape.padding, *shape.padding),
                "dilations": shape.dilation,
                "group": shape.groups,
            }
        after = parts.node("Conv" if shape.kind == "conv" else "Gemm", tensors, f"layer{i}_", **attributes)
        after = parts.node("Relu", [after], f"layer{i}_relu")
        if shape.bits == 8:
            after = parts.rounded(after, f"layer{i}_after")
        if shape.kind == "conv":
            after = parts.node("GlobalAveragePool", [after], f"sink{i}")
        parts.outputs.append(after)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in feeds.items()]
    outputs = [onnx.ValueInfoProto(name=name) for name in parts.outputs]
    for value in outputs:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    body = helper.make_graph(parts.nodes, "bench", inputs, outputs, parts.initializers)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), feeds


def _input_dims(shape: LayerShape, batch: int) -> tuple[int, ...]:
    if shape.kind == "conv":
        return (batch, shape.in_channels, *shape.input_size)
    return (batch * prod(shape.input_size), shape.in_channels)


def _weight_dims(shape: LayerShape) -> tuple[int, ...]:
    if shape.kind == "conv":
        return (shape.out_channels, shape.in_channels // shape.groups, *shape.kernel)
    return (shape.out_channels, shape.in_channels)


class _Parts:
    """Nodes and constants of a graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.outputs: list[str] = []

    def constant(self, value: NDArray[Any] | np.generic, name: str | None = None) -> str:
        name = name or f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}out"], name=name, **attributes))
        return f"{name}out"

    def rounded(self, tensor: str, name: str) -> str:
        """``tensor`` as uint8 and back: the pair that the runtime turns into integer layers."""
        scale, zero = self.constant(np.float32(0.02)), self.constant(np.uint8(0))
        integer = self.node("QuantizeLinear", [tensor, scale, zero], f"{name}_q")
        return self.node("DequantizeLinear", [integer, scale, zero], f"{name}_dq")

    def weights(self, weight: NDArray[np.float32], bias: NDArray[np.float32], bits: int, name: str) -> list[str]:
        """Weight and bias, as floats or as int8 and int32 with one scale an output channel."""
        if bits == 32:
            return [self.constant(weight, name), self.constant(bias, f"{name}_bias")]
        rows = np.abs(weight).reshape(len(weight), -1).max(axis=1)
        steps = np.maximum(rows / 127, 1e-8).astype(np.float32)
        integers = np.round(weight / steps.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        scales, zeros = self.constant(steps), self.constant(np.zeros(len(weight), np.int8))
        found = self.node("DequantizeLinear", [self.constant(integers), scales, zeros], f"{name}_dq", axis=0)
        bias_scales, bias_zeros = (
            self.constant(steps * np.float32(0.02)),
            self.constant(np.zeros(len(weight), np.int32)),
        )
        whole = np.round(bias / (steps * 0.02)).clip(-(2**30), 2**30).astype(np.int32)
        added = self.node(
            "DequantizeLinear", [self.constant(whole), bias_scales, bias_zeros], f"{name}_bias_dq", axis=0
        )
        return [found, added]
