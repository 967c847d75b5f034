"""The experiment on edge pruning as one figure: accuracy against latency, and confusion matrices."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coldpress.papers.edge_pruning_table import Row

COLOURS = {"published": "0.5", "as published": "tab:orange", "corrected": "tab:blue"}
COLUMNS = 5
FEW = 4
"""Classes whose counts are written into their cells."""

Methods = Mapping[str, Sequence[Row]]


def svg(rows: Sequence[Row]) -> str:
    """Every method's means over seeds (lines: least to most), and the first seed's confusion matrices, as SVG."""
    methods: dict[str, list[Row]] = {}
    for row in rows:
        methods.setdefault(f"{row.kind}: {row.method}", []).append(row)
    matrices = {name: found[0] for name, found in methods.items() if _is_final(found[0])}
    lines = math.ceil(len(matrices) / COLUMNS)
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "coldpress", "font.size": 8}):
        figure = Figure(figsize=(10, 5.5 + 2 * lines), layout="constrained")
        count = 2 if lines else 1
        parts = figure.subfigures(count, 1, squeeze=False, height_ratios=[5.5, 2 * lines][:count]).ravel()
        _draw_scatter(parts[0].subplots(), methods)
        if lines:
            _draw_matrices(parts[1].subplots(lines, COLUMNS, squeeze=False).ravel().tolist(), matrices)
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _is_final(row: Row) -> bool:
    """Whether predictions are known, and the row is what others are compared with or what a procedure ends in."""
    ends = row.method == "teacher" or (row.kind, row.method) == ("as published", "q-bit search")
    return "confusion" in row.facts and (ends or row.method.endswith(", distilled"))


def _draw_scatter(axes: Axes, methods: Methods) -> None:
    """A number for each method, which the legend names; those that were skipped are in the legend alone."""
    for number, (name, rows) in enumerate(methods.items(), 1):
        points = [
            (row.milliseconds, 100 * row.accuracy) for row in rows if row.accuracy is not None and row.milliseconds
        ]
        colour, label = COLOURS[rows[0].kind], name if points else f"{name} (skipped)"
        x, y = np.mean(points, axis=0) if points else (math.nan, math.nan)
        for i, spread in enumerate(zip(*points)):
            ends = [(min(spread), y), (max(spread), y)] if i == 0 else [(x, min(spread)), (x, max(spread))]
            axes.plot(*zip(*ends), color=colour, linewidth=0.6, alpha=0.5)
        size = 5 + 3 * len(str(number))
        axes.plot(x, y, linestyle="", marker=f"${number}$", markersize=size, color=colour, label=label)
    axes.set_xscale("log")
    axes.set(
        ylabel="accuracy, %", xlabel="ms a sample: masks in PyTorch, coldpress in ONNX Runtime, published elsewhere"
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)


def _draw_matrices(places: Sequence[Axes], matrices: Mapping[str, Row]) -> None:
    """Counts by true class (down) and prediction (across), shaded by their share of the true class."""
    for axes in places[len(matrices) :]:
        axes.set_axis_off()
    for axes, (name, row) in zip(places, matrices.items()):
        counts = np.asarray(row.facts["confusion"])
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for place in np.ndindex(*counts.shape) if len(counts) <= FEW else ():
            ink = "white" if shares[place] > 0.5 else "black"
            axes.text(place[1], place[0], str(counts[place]), ha="center", va="center", color=ink)
        axes.set_title(name.replace(": ", ":\n"), fontsize=7)
        axes.set(xticks=range(len(counts)), yticks=range(len(counts)), xlabel="predicted", ylabel="true")
