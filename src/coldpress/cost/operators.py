"""What every operator of an ONNX file does, as a roofline counts it: read off one run of the file."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from coldpress.runtime.sessions import run, session

_LAYERS = re.compile(r"Conv|Gemm|MatMul", re.IGNORECASE)
_EXPONENTIALS = re.compile(r"Softmax|Gelu|Erf|Exp$|Sigmoid|Silu|Tanh")
EXPONENTIAL = 10
"""Multiply-accumulates of an exponential and its like: range reduction, a polynomial, scaling."""
VIEWS = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Shape"}
"""Move nothing: the runtime hands the same bytes on."""
PICKS = {"Gather", "GatherElements", "GatherND", "Slice"}
"""Read no more of their input than they write."""
_WIDTHS = {"double": 8, "int64": 8, "uint64": 8, "float16": 2, "bfloat16": 2, "int8": 1, "uint8": 1, "bool": 1}

Dims = list[int]


class Operator(NamedTuple):
    """One operator's work in one run.

    Attributes:
        macs: multiply-accumulates.
        weights: bytes of its constant inputs.
        activations: bytes that it reads and writes beside them.
        bits: 8 where it multiplies integers, else 32.
    """

    macs: int
    weights: int
    activations: int
    bits: int


def operators_of(path: str | Path, arrays: Sequence[NDArray[Any]]) -> Counter[Operator]:
    """The operators of an ONNX file, and how often each is run.

    The runtime fuses what it fuses on every machine; layouts of this one's processor are left out.

    Args:
        path: the file.
        arrays: its inputs in order, each ``(batch, ...)``.

    Raises:
        ExportError: the file cannot be read, or does not take the inputs.
    """
    with tempfile.TemporaryDirectory(prefix="coldpress-") as folder:
        prefix = str(Path(folder) / "profile")
        running = session(path, optimisation="extended", prepack=False, profile_prefix=prefix)
        run(running, arrays)
        events = json.loads(Path(running.end_profiling()).read_text())
    return Counter(_operator(e["args"]) for e in events if str(e.get("name", "")).endswith("_kernel_time"))


def _operator(told: Mapping[str, Any]) -> Operator:
    """An operator from the runtime's profile."""
    kind = str(told["op_name"])
    inputs, outputs = _tensors(told["input_type_shape"]), _tensors(told["output_type_shape"])
    if kind in VIEWS or not outputs:
        return Operator(0, 0, 0, 32)
    written = sum(_bytes(*tensor) for tensor in outputs)
    if kind in PICKS:
        return Operator(0, 0, 2 * written, 32)
    weights = int(told["parameter_size"])
    activations = sum(_bytes(*tensor) for tensor in inputs) - weights + written
    dims, out = [dims for _, dims in inputs], outputs[0][1]
    if _LAYERS.search(kind):
        factor, of = next(((type_, dims) for type_, dims in inputs[1:] if len(dims) > 1), ("float", []))
        return Operator(_products(kind, dims[0], of, out), weights, activations, 8 if _WIDTHS.get(factor) == 1 else 32)
    if kind.endswith("Attention") and len(dims) > 2:
        keys = dims[1][-2]
        scores = prod(dims[0][:-1]) * keys  # written, read and written as weights, read again
        return Operator(
            (prod(dims[0]) + prod(out)) * keys + EXPONENTIAL * scores, weights, activations + 16 * scores, 32
        )
    return Operator(EXPONENTIAL * prod(out) if _EXPONENTIALS.search(kind) else 0, weights, activations, 32)


def _products(kind: str, first: Dims, second: Dims, out: Dims) -> int:
    """Multiply-accumulates of a convolution or a matrix product, by the dimensions of its tensors."""
    if "conv" not in kind.lower():
        return prod(out) * first[-1]
    return prod(first if "Transpose" in kind else out) * prod(second[1:])


def _tensors(told: Sequence[Mapping[str, Dims]]) -> list[tuple[str, Dims]]:
    return [(type_, dims) for tensor in told for type_, dims in tensor.items()]


def _bytes(type_: str, dims: Dims) -> int:
    return _WIDTHS.get(type_, 4) * prod(dims)
