"""The figures of the report, each from plain lists to one SVG; the original is grey, the compressed model in colour."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from coldpress.report import axes, formats
from coldpress.report.axes import Point

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Figure:
    """A drawing with its title, a line of explanation and the key to its colours: ``(css class, words)``."""

    title: str
    drawing: Markup
    note: str = ""
    key: tuple[tuple[str, str], ...] = ()


BOTH = (("before", "original"), ("after", "compressed"))
QUANTITIES: tuple[tuple[str, str, float, Callable[[float], str]], ...] = (
    ("latency_ms", "predicted latency, ms", 1.0, formats.milliseconds),
    ("bytes", "size, MB", 1e-6, formats.size),
    ("macs", "MACs, millions", 1e-6, formats.scaled),
)


def _wide(values: Sequence[float]) -> bool:
    """Whether a logarithmic axis shows these values better."""
    return min(values) > 0 and max(values) / min(values) > 30


def pareto(points: Sequence[Json]) -> list[Figure]:
    """The budget sweep: predicted harm, and accuracy where it was measured, against the cost that was swept."""
    found = [q for q in QUANTITIES if len({p[q[0]] for p in points if formats.known(p.get(q[0]))}) > 1]
    if not found:
        return []
    quantity, x_title, scale, show = found[0]
    points = sorted((p for p in points if formats.known(p.get(quantity))), key=lambda p: float(p[quantity]))
    figures = []
    for field, y_title, factor in (
        ("predicted_kl", "predicted KL to the original", 1.0),
        ("accuracy", "measured accuracy, %", 100.0),
    ):
        rows = [p for p in points if formats.known(p.get(field))]
        if not rows:
            continue
        xy = [(scale * p[quantity], factor * p[field]) for p in rows]
        log = field == "predicted_kl" and _wide([y for _, y in xy])
        area = axes.frame(xy, x_title, y_title + (" (log)" if log else ""), log=(False, log), zero=True)
        titles = [
            f"budget {p.get('budget', '')}: {show(p[quantity])}, {formats.three(y)}" for p, (_, y) in zip(rows, xy)
        ]
        chosen = [i for i, p in enumerate(rows) if p.get("chosen")]
        marks = [area.draw(), area.line(xy, "after"), area.dots(xy, "after open", titles=titles)]
        marks.append(area.dots([xy[i] for i in chosen], "after", 5.5, [titles[i] for i in chosen]))
        title = "Predicted harm" if field == "predicted_kl" else "Measured accuracy"
        key = (("dot after", "this run's plan"),) if chosen else ()
        figures.append(Figure(title, axes.svg(marks, f"{y_title} against {x_title}"), key=key))
    return figures


def correlation(data: Json) -> list[Figure]:
    """Energy against measured loss over random plans, before and after the sequential re-fit."""
    figures = []
    for end, rank, title, css in (
        ("", "spearman", "Before the re-fit", "before"),
        ("_refit", "spearman_refit", "After the re-fit", "after"),
    ):
        pairs = zip(data.get(f"predicted{end}") or [], data.get(f"measured{end}") or [])
        xy = [(float(p), float(m)) for p, m in pairs if formats.known(p) and formats.known(m)]
        if len(xy) < 2:
            continue
        values = [v for pair in xy for v in pair]
        log = _wide(values)
        area = axes.frame([*xy], "energy (predicted KL)", "measured KL", log=(log, log))
        low, high = max(area.x.low, area.y.low), min(area.x.high, area.y.high)
        same = area.line([(low, low), (high, high)], "reference") if low < high else Markup()
        note = f"rank correlation {formats.three(data[rank])}" if formats.known(data.get(rank)) else ""
        if formats.known(data.get(f"{rank}_separable")):
            note += f" ({formats.three(data[f'{rank}_separable'])} without terms between units)"
        drawing = axes.svg([area.draw(), same, area.dots(xy, css)], f"measured against predicted loss, {title.lower()}")
        figures.append(Figure(title, drawing, f"{note}{', ' if note else ''}{len(xy)} random plans"))
    return figures


def latency(samples: Json) -> list[Figure]:
    """How the measured times of both sides are distributed: on one axis from zero, and about their own medians."""
    sides = {css: np.asarray([v for v in samples.get(name) or [] if formats.known(v)], float) for css, name in BOTH}
    sides = {css: values for css, values in sides.items() if len(values)}
    if not sides:
        return []
    quartiles = {css: [float(v) for v in np.percentile(values, [25, 50, 75])] for css, values in sides.items()}
    names = dict(BOTH)
    words = {css: f"{names[css]}: median {formats.milliseconds(median)}" for css, (_, median, _) in quartiles.items()}
    end = 1.04 * max(float(np.percentile(values, 99)) for values in sides.values())
    label = "latency of both models"
    first = histograms("From zero on", sides, words, (0.0, end), 140, "milliseconds a run", label)

    off = {css: 100 * (values / quartiles[css][1] - 1) for css, values in sides.items()}
    words = {
        css: f"{names[css]}: middle half {formats.three(low)} to {formats.milliseconds(high)}"
        for css, (low, _, high) in quartiles.items()
    }
    low = min(float(np.percentile(values, 1)) for values in off.values()) - 0.5
    high = max(float(np.percentile(values, 97)) for values in off.values()) + 0.5
    return [first, histograms("About the median", off, words, (low, high), 60, "percent off the median", label)]


def histograms(
    title: str,
    sides: Mapping[str, np.ndarray[Any, np.dtype[np.float64]]],
    words: Mapping[str, str],
    span: tuple[float, float],
    bins: int,
    x_title: str,
    label: str,
    counted: str = "runs",
) -> Figure:
    """One histogram above the other on a common axis; what lies outside ``span`` is counted, not drawn."""
    row, tall = 92, 52
    bottom = row * len(sides) - 14
    x = axes.Axis(*span, 0, axes.WIDTH - axes.RIGHT)
    area = axes.Frame(x, axes.Axis(0, 1, bottom, 0), x_title, "")
    marks = [area.draw(y_ticks=False)]
    for i, (css, values) in enumerate(sides.items()):
        base = row * (i + 1) - 14
        heights, edges = np.histogram(values, bins=bins, range=span)
        marks.append(area.bars(heights.tolist(), edges.tolist(), base, tall, css))
        marks.append(Markup('<path class="axis" d="M0 {}H{:.1f}"/>').format(base, x.end))
        marks.append(axes.text(0, base - tall - 13, words[css]))
    outside = sum(int(((values < span[0]) | (values > span[1])).sum()) for values in sides.values())
    note = f"{sum(map(len, sides.values())):,} {counted}" + (
        f", {outside} of them outside this range" if outside else ""
    )
    return Figure(title, axes.svg(marks, f"{label}, {x_title}", bottom + axes.BOTTOM), note)


def trace(points: Sequence[Sequence[float | None]]) -> list[Figure]:
    """The solver's best energy and its proven bound against time."""
    energies = [(float(p[0] or 0), float(p[1])) for p in points if p[1] is not None and math.isfinite(p[1])]
    bounds = [(float(p[0] or 0), float(p[2])) for p in points if p[2] is not None and math.isfinite(p[2])]
    if not energies:
        return []
    end = max(x for x, _ in energies + bounds)
    energies.append((end, energies[-1][1]))
    if bounds:
        bounds.append((end, bounds[-1][1]))
    area = axes.frame(energies + bounds, "seconds", "energy", zero=True)
    marks = [area.draw(), area.steps(bounds, "before") if bounds else Markup(), area.steps(energies, "after")]
    key = (("after", "best plan found"), *((("before", "proven lower bound"),) if bounds else ()))
    return [Figure("", axes.svg(marks, "solver's energy and bound against time"), key=key)]


def history(epochs: Sequence[Json], original: float | None = None, metric: str = "accuracy") -> list[Figure]:
    """Recovery: the validation score (of the original too) and the training loss by epoch."""
    figures = []
    shown: dict[str, tuple[str, Callable[[float], float]]] = {
        "validation_accuracy": ("validation accuracy, %", lambda value: 100 * value),
        "train_loss": ("training loss", lambda value: value),
    }
    if metric == "log_likelihood":
        shown["validation_accuracy"] = ("validation perplexity", lambda value: math.exp(-value))
    for field, (title, scale) in shown.items():
        xy: list[Point] = [(float(e["epoch"]), scale(e[field])) for e in epochs if formats.known(e.get(field))]
        if not xy:
            continue
        reference = scale(original) if field == "validation_accuracy" and original is not None else None
        area = axes.frame(
            [*xy, (xy[0][0], reference if reference is not None else xy[0][1])], "epoch", title, whole=True
        )
        marks = [area.draw(), area.line(xy, "after"), area.dots(xy, "after", 3)]
        if reference is not None:
            marks.append(area.line([(area.x.low, reference), (area.x.high, reference)], "reference"))
        key = (("reference", "original, on the same data"),) if reference is not None else ()
        figures.append(Figure("", axes.svg(marks, f"{title} by epoch"), key=key))
    return figures


def confusion(data: Json, most: int = 20) -> list[Figure]:
    """Heat maps of both confusion matrices, rows in percent of the true class; none above ``most`` classes."""
    classes = [str(name) for name in data.get("classes") or []]
    if not 2 <= len(classes) <= most:
        return []
    return [
        Figure(name.capitalize(), _heat_map(np.asarray(data[name], dtype=float), classes, name))
        for _, name in BOTH
        if data.get(name)
    ]


def roc(data: Json) -> list[Figure]:
    """The ROC curves of both sides, for two classes."""
    curves = {css: [(float(x), float(y)) for x, y in (data.get(name) or {}).get("roc") or []] for css, name in BOTH}
    curves = {css: curve for css, curve in curves.items() if len(curve) > 2}
    if not curves:
        return []
    area = axes.frame([(0.0, 0.0), (1.0, 1.0)], "false positive rate", "true positive rate", zero=True)
    marks = [area.draw(), area.line([(0.0, 0.0), (1.0, 1.0)], "reference")]
    marks += [area.line(curve, css) for css, curve in curves.items()]
    names = dict(BOTH)
    key = tuple((css, names[css]) for css in curves)
    return [Figure("ROC curve", axes.svg(marks, "true against false positive rate of both models"), key=key)]


def _heat_map(matrix: np.ndarray[Any, np.dtype[np.float64]], classes: Sequence[str], name: str) -> Markup:
    """Rows are true classes, columns predictions; opacity goes with the square root, so that mistakes can be seen."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    names = [c if len(c) <= 11 else c[:10] + "…" for c in classes]
    longest = max(len(c) for c in names)
    left, top = 16 + 6.2 * longest, 30 + 4.6 * longest
    cell = (axes.WIDTH - left - 22) / len(classes)
    marks = [axes.text(0, 11, "true class ↓   predicted →", "title")]
    for i, label in enumerate(names):
        marks.append(axes.text(left - 6, top + cell * (i + 0.5) + 4, label, "tick", "end"))
        marks.append(axes.text(left + cell * (i + 0.5), top - 6, label, "tick", turn=-45))
    for i, j in np.argwhere(shares > 0):
        share, x, y = float(shares[i, j]), left + cell * j, top + cell * i
        strength = round(math.sqrt(share), 2)
        tip = f"{classes[i]} as {classes[j]}: {formats.count(float(matrix[i, j]))} ({formats.percent(share)})"
        square = (
            '<rect class="cell" x="{:.1f}" y="{:.1f}" width="{w:.1f}" height="{w:.1f}" fill-opacity="{}">'
            "<title>{}</title></rect>"
        )
        marks.append(Markup(square).format(x, y, strength, tip, w=cell - 1))
        if len(classes) <= 12 and share >= 0.005:
            css = "share strong" if strength > 0.6 else "share"
            marks.append(axes.text(x + cell / 2 - 0.5, y + cell / 2 + 3.5, f"{100 * share:.0f}", css, "middle"))
    return axes.svg(marks, f"confusion matrix, {name}", top + cell * len(classes) + 4)
