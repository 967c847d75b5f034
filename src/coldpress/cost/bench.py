"""Time layers as a network meets them: many in one graph, so that each finds the caches as the others left them."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from coldpress.layer_shape import LayerShape
from coldpress.runtime.dynamic import dynamic_layer, rounded_columns
from coldpress.runtime.sessions import session

# Touched between runs: beyond a core's own caches, so that weights come from the shared one, as in a network whose
# other layers ran since.
FLUSH = 4 << 20
# Seconds that a layer costs at least, however little it does.
LEAST = 5e-7
# What a layer may become when the runtime has rewritten the graph; everything else in the graph is scaffolding.
_LAYERS = re.compile(r"Conv|Gemm|MatMul", re.IGNORECASE)
_NUMBER = re.compile(r"\blayer(\d+)_")
_NOTHING = ("nothing1_kernel_time", "nothing2_kernel_time", "nothing3_kernel_time")


def layer_seconds(
    shapes: Sequence[LayerShape], *, threads: int = 1, batch: int = 1, repeats: int = 40, seed: int = 0
) -> list[float]:
    """Seconds of each dense layer, measured side by side in one graph; NaN for one that the profile does not show."""
    kernels, nothing = _kernels(*graph(shapes, batch=batch, seed=seed), threads, repeats)
    found = [float("nan")] * len(shapes)
    for name, kind, seconds in kernels:
        number = _NUMBER.search(name)
        if number and _LAYERS.search(kind):
            found[int(number[1])] = max(seconds - nothing, LEAST)  # of the two copies the one that runs last stays
    return found


def switch_seconds(
    channels: int, size: tuple[int, int], *, threads: int = 1, batch: int = 1, repeats: int = 40
) -> float:
    """Seconds that it takes to go from a float layer to an int8 one, or back, at a tensor of these dimensions."""
    layer = LayerShape("conv", channels, channels, input_size=size)
    rng = np.random.default_rng(0)
    parts = _Parts()
    tensor = "input"
    for i in range(5):
        bits = 32 if i % 2 == 0 else 8
        if bits == 32 and i:
            tensor = parts.node(
                "Clip", [tensor, parts.constant(np.float32(0)), parts.constant(np.float32(9))], f"clip{i}"
            )
        tensor = parts.layer(replace(layer, bits=bits), tensor, f"layer{i}", rng)
        tensor = parts.node("Relu", [tensor], f"relu{i}") if bits == 32 else tensor
        tensor = parts.rounded(tensor, f"after{i}") if bits == 32 and i < 4 else tensor
    parts.outputs.append(parts.node("GlobalAveragePool", [tensor], "sink"))
    feeds = {"input": rng.random((batch, channels, *size), dtype=np.float32)}
    kernels, nothing = _kernels(parts.model(feeds), feeds, threads, repeats)
    spent = [max(seconds - nothing, 0.0) for name, kind, seconds in kernels if not _LAYERS.search(kind)]
    return sum(spent) / 4


def _kernels(
    model: onnx.ModelProto, feeds: dict[str, NDArray[np.float32]], threads: int, repeats: int
) -> tuple[list[tuple[str, str, float]], float]:
    """Name, operator and seconds of every kernel in the order they run, and what the profile itself costs each."""
    buffer = np.zeros(FLUSH, np.uint8)
    with tempfile.TemporaryDirectory(prefix="coldpress-") as folder:
        running = session(model.SerializeToString(), threads, profile_prefix=str(Path(folder) / "profile"))
        for _ in range(repeats + 2):
            buffer += 1
            running.run(None, feeds)
        events = json.loads(Path(running.end_profiling()).read_text())
    samples: dict[tuple[str, str], list[float]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if name.endswith("_kernel_time"):
            samples.setdefault((name, str(event["args"]["op_name"])), []).append(event["dur"] * 1e-6)
    seconds = {key: _typical(times[2:]) for key, times in samples.items()}
    nothing = float(np.median([value for (name, _), value in seconds.items() if name in _NOTHING]))
    kernels = [(name, kind, value) for (name, kind), value in seconds.items() if not name.startswith("nothing")]
    return kernels, nothing


def _typical(times: Sequence[float]) -> float:
    """The mean of the lower half but its tenth: whole microseconds would make a median coarse, and what else the
    machine does only ever adds time.
    """
    ordered = np.sort(times)
    return float(ordered[len(ordered) // 10 : max(len(ordered) // 2, 1)].mean())


def graph(
    shapes: Sequence[LayerShape], *, batch: int = 1, seed: int = 0
) -> tuple[onnx.ModelProto, dict[str, NDArray[np.float32]]]:
    """A model that runs every layer twice, and its inputs.

    A layer's input is written right before it, as a network's is. Static int8 layers lie between uint8 tensors, dynamic
    ones between floats, where each copy has an input of its own to round. The two copies have weights of their own and
    are added up; the second finds code and input as behind another layer.
    """
    rng = np.random.default_rng(seed)
    parts = _Parts()
    feeds: dict[str, NDArray[np.float32]] = {}
    for i, shape in enumerate(shapes):
        dims = _input_dims(shape, batch)
        source = "input_" + "x".join(str(n) for n in dims)
        if source not in feeds:
            feeds[source] = rng.random(dims, dtype=np.float32)
        static = shape.bits == 8 and not shape.dynamic
        # A factor of its own keeps the runtime from sharing one copy of the input between layers.
        before = parts.node("Mul", [source, parts.constant(np.float32(1 + i / 1024))], f"feed{i}")
        before = parts.rounded(before, f"before{i}") if static else before
        own = parts.node("Neg", [before], f"own{i}") if shape.dynamic else before
        copies = [parts.layer(shape, x, f"layer{i}_{copy}", rng) for copy, x in zip("ab", (before, own))]
        after = parts.node("Relu", [parts.node("Add", copies, f"layer{i}_join")], f"layer{i}_relu")
        if static:
            after = parts.rounded(after, f"after{i}")
        if shape.kind == "conv":
            after = parts.node("GlobalAveragePool", [after], f"sink{i}")
        parts.outputs.append(after)
    return parts.model(feeds), feeds


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

    def model(self, feeds: dict[str, NDArray[np.float32]]) -> onnx.ModelProto:
        """The graph closed, with a few nodes that do nothing; their input is added to ``feeds``."""
        feeds["one"] = np.ones(1, np.float32)
        idle = "one"
        for i in range(4):  # the first warms up for the others
            idle = self.node("Exp", [idle], f"nothing{i}")
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in feeds.items()]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (*self.outputs, idle)]
        body = helper.make_graph(self.nodes, "bench", inputs, outputs, self.initializers)
        return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)

    def constant(self, value: NDArray[Any] | np.generic, name: str | None = None) -> str:
        name = name or f"constant_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}out"], name=name, **attributes))
        return f"{name}out"

    def layer(self, shape: LayerShape, before: str, name: str, rng: np.random.Generator) -> str:
        """One convolution or Gemm with random weights; in static int8 its output is rounded too."""
        dims = _weight_dims(shape)
        weight = rng.standard_normal(dims, dtype=np.float32) / float(prod(dims[1:])) ** 0.5
        bias = rng.standard_normal(shape.out_channels, dtype=np.float32)
        if shape.dynamic:
            return self.dynamic(weight, bias, before, name)
        attributes: dict[str, Any] = {"transB": 1}
        if shape.kind == "conv":
            attributes = {
                "kernel_shape": shape.kernel,
                "strides": shape.stride,
                "pads": (*shape.padding, *shape.padding),
                "dilations": shape.dilation,
                "group": shape.groups,
            }
        tensors = [before, *self.weights(weight, bias, shape.bits, f"{name}_weight")]
        after = self.node("Conv" if shape.kind == "conv" else "Gemm", tensors, name, **attributes)
        return self.rounded(after, f"{name}_after") if shape.bits == 8 else after

    def dynamic(self, weight: NDArray[np.float32], bias: NDArray[np.float32], before: str, name: str) -> str:
        """A linear layer in dynamic int8, as it is deployed."""
        matrix, scales = rounded_columns(weight.T)
        self.constant(matrix, f"{name}_weight_int8")
        self.constant(scales, f"{name}_weight_scale")
        inputs = [before, f"{name}_weight", self.constant(bias)]
        self.nodes += dynamic_layer(helper.make_node("Gemm", inputs, [f"{name}out"], name=name))
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
