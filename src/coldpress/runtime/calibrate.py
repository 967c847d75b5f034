"""The ranges of activations: what int8 must be able to express, found on calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from coldpress.errors import ExportError
from coldpress.runtime.sessions import run, session

Method = Literal["minmax", "mse", "percentile"]

BINS = 2048
LEVELS = 255
PERCENTILE = 99.99


def ranges(
    model: onnx.ModelProto, tensors: Sequence[str], batches: Iterable[dict[str, NDArray[Any]]], method: Method = "mse"
) -> dict[str, tuple[float, float]]:
    """Lowest and highest value to be expressed of each tensor, zero included.

    Args:
        model: the fp32 model; not changed.
        tensors: names of activations.
        batches: calibration data, input name to array; read twice, so kept in memory.
        method: "minmax" all values; "percentile" all but 0.01 %; "mse" the range whose rounding and clipping
            together make the least squared error.

    Returns:
        Tensor name to (low, high).

    Raises:
        ExportError: there is no data, or a tensor takes NaN or infinite values.
    """
    data = list(batches)
    if not data:
        raise ExportError("there is no calibration data; int8 needs some typical inputs (a few hundred samples)")
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {value.name for value in watched.graph.output}
    inputs = {value.name for value in watched.graph.input}
    inner = [name for name in tensors if name not in outputs and name not in inputs]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    running = session(watched.SerializeToString(), optimisation="basic")
    names = [value.name for value in running.get_outputs()]

    def observe(batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        seen = dict(zip(names, run(running, batch))) | batch
        return {name: seen[name] for name in tensors}

    low = dict.fromkeys(tensors, 0.0)
    high = dict.fromkeys(tensors, 0.0)
    for batch in data:
        for name, value in observe(batch).items():
            low[name] = min(low[name], float(value.min()))
            high[name] = max(high[name], float(value.max()))
            if not np.isfinite(value.sum(dtype=np.float64)):
                raise ExportError(f"activation {name!r} takes NaN or infinite values on the calibration data")
    if method == "minmax":
        return {name: (low[name], high[name]) for name in tensors}
    counts = {name: np.zeros(BINS) for name in tensors}
    for batch in data:
        for name, value in observe(batch).items():
            counts[name] += np.histogram(value, bins=BINS, range=_span(low[name], high[name]))[0]
    choose = _least_error if method == "mse" else _percentile
    return {name: choose(counts[name], *_span(low[name], high[name])) for name in tensors}


def _span(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low, low + 1e-6)


def _percentile(counts: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    edges = np.linspace(low, high, BINS + 1)
    share = np.cumsum(counts) / counts.sum()
    tail = (1 - PERCENTILE / 100) / 2 if low < 0 else 0.0
    first = int(np.searchsorted(share, tail)) if tail else 0
    last = int(np.searchsorted(share, PERCENTILE / 100 + tail))
    return min(0.0, float(edges[first])), max(0.0, float(edges[min(last + 1, BINS)]))


def _least_error(counts: NDArray[np.float64], low: float, high: float) -> tuple[float, float]:
    """Shrink both ends together, and each alone, while the expected squared error falls."""
    centres = low + (np.arange(BINS) + 0.5) * (high - low) / BINS

    def error(a: float, b: float) -> float:
        step = (b - a) / LEVELS
        clipped = np.maximum(centres - b, 0.0) ** 2 + np.maximum(a - centres, 0.0) ** 2
        inside = (centres >= a) & (centres <= b)
        return float((counts * (clipped + inside * step**2 / 12)).sum())

    shares = np.linspace(1.0, 0.2, 81)
    best = min(((error(low * s, high * s), low * s, high * s) for s in shares), key=lambda found: found[0])
    for s in shares if low < 0 else ():
        for a, b in ((low * s, best[2]), (best[1], high * s)):
            if (found := error(a, b)) < best[0]:
                best = (found, a, b)
    return best[1], best[2]
