"""The tables of a run: before and after, every layer, prediction against measurement, for the page and the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from coldpress.report import formats

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One quantity on both sides, with what became of it."""

    label: str
    before: str
    after: str
    change: str
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """Text with a small bar under it: lengths in percent of the cell, before and after."""

    text: str
    before: float = 0.0
    after: float = 0.0


@dataclass(frozen=True)
class LayerRow:
    """What happened to one layer, column by column."""

    name: str
    kind: str
    dropped: bool
    inputs: str
    outputs: Bar
    rank: str
    bits: str
    costs: tuple[Bar, ...]


COSTS = (("macs", "MACs", formats.scaled), ("bytes", "Bytes", formats.size), ("ms", "Predicted ms", formats.three))


def comparison(metrics: Json) -> list[Row]:
    """Before and after, quantity by quantity; those that neither side has are left out.

    Args:
        metrics: ``metrics.json`` of an artifact.
    """
    before, after = metrics.get("original") or {}, metrics.get("compressed") or {}
    times = before.get("latency_ms") or {}, after.get("latency_ms") or {}
    split = (metrics.get("comparison") or {}).get("split", "")
    rows = []

    def add(label: str, sides: tuple[Any, Any], show: Any, change: str, note: str = "") -> None:
        if any(value is not None for value in sides):
            rows.append(Row(label, show(sides[0]), show(sides[1]), change, note))

    pair = before.get("accuracy"), after.get("accuracy")
    change = _difference(metrics)
    add(f"Accuracy ({split})" if split else "Accuracy", pair, lambda v: formats.percent(v, 2), change)
    pair = before.get("accuracy_interval"), after.get("accuracy_interval")
    add("95 % interval", pair, formats.interval, _difference_interval(metrics), "of the difference: paired")
    medians = times[0].get("median"), times[1].get("median")
    add("Latency, median", medians, formats.milliseconds, formats.ratio(*medians, "faster", "slower"), conditions(metrics))
    pair = times[0].get("spread"), times[1].get("spread")
    add("Latency, spread", pair, formats.milliseconds, "", "width of the middle half of the runs")
    for field, label, show in (
        ("file_bytes", "ONNX file", formats.size),
        ("parameters", "Parameters", formats.count),
        ("macs", "MACs", formats.scaled),
    ):
        pair = before.get(field), after.get(field)
        words = ("smaller", "larger") if field == "file_bytes" else ("fewer", "more")
        add(label, pair, show, formats.ratio(*pair, *words))
    pair = before.get("sparsity"), after.get("sparsity")
    if any(pair):
        add("Zeros among the weights", pair, formats.percent, "", "no speed comes of these")
    return rows


def conditions(metrics: Json) -> str:
    """How latency was measured: ``ONNX Runtime 1.31, batch 1, 1 thread``."""
    side = (metrics.get("compressed") or {}).get("latency_ms") or (metrics.get("original") or {}).get("latency_ms") or {}
    words = [str(side["runtime"])] if side.get("runtime") else []
    if side.get("batch") is not None:
        words.append(f"batch {side['batch']}")
    if side.get("threads") is not None:
        words.append(f"{side['threads']} thread{'' if side['threads'] == 1 else 's'}")
    return ", ".join(words)


def _difference(metrics: Json) -> str:
    sides = [(metrics.get(side) or {}).get("accuracy") for side in ("original", "compressed")]
    difference = (metrics.get("comparison") or {}).get("difference")
    if difference is None and None not in sides:
        difference = sides[1] - sides[0]
    return f"{formats.signed(difference)} points" if formats.known(difference) else formats.DASH


def _difference_interval(metrics: Json) -> str:
    bounds = (metrics.get("comparison") or {}).get("difference_interval")
    return f"{formats.signed(bounds[0])} to {formats.signed(bounds[1])}" if bounds else ""


def paired_test(metrics: Json) -> str:
    """One sentence on whether both models differ in accuracy, or nothing where no test was made."""
    data = metrics.get("comparison") or {}
    if not formats.known(data.get("p_value")):
        return ""
    words = "differ" if data["p_value"] < 0.05 else "cannot be told apart"
    sentence = f"Exact McNemar test: {formats.p_value(data['p_value'])}, so at the 5 % level the two models {words}"
    if data.get("discordant"):
        lost, gained = data["discordant"]
        sentence += f"; {lost:,} samples only the original had right, {gained:,} only the compressed model"
    if data.get("samples"):
        sentence += f", of {data['samples']:,}"
    return sentence + "."


def prediction(metrics: Json) -> list[Row]:
    """What the plan promised against what was measured; columns are predicted, measured, error."""
    predicted, after = metrics.get("predicted") or {}, metrics.get("compressed") or {}
    measured = {"latency_ms": (after.get("latency_ms") or {}).get("median"), "size": after.get("file_bytes")}
    measured |= {"macs": after.get("macs"), "kl": after.get("kl")}
    shows = {"latency_ms": formats.milliseconds, "size": formats.size, "macs": formats.scaled, "kl": formats.three}
    labels = {"latency_ms": "Latency", "size": "Size", "macs": "MACs", "kl": "KL to the original"}
    rows = []
    for field, show in shows.items():
        promise, fact = predicted.get(field), measured[field]
        if formats.known(promise):
            error = f"{formats.signed(promise / fact - 1, 1)} %" if formats.known(fact) and fact else ""
            rows.append(Row(labels[field], show(promise), show(fact), error))
    return rows


def _form(side: Json) -> str:
    rank = side.get("rank") or []
    method = side.get("method") or "dense"
    return "" if method == "dense" else f"{method} {', '.join(map(str, rank if isinstance(rank, list) else [rank]))}"


def _moved(before: str, after: str) -> str:
    return after if before == after else f"{before} {formats.ARROW} {after}"


def layer_rows(layers: Sequence[Json]) -> list[LayerRow]:
    """Every layer before and after; bars of a cost are relative to the costliest layer, those of width to its own."""
    most = {f: max((float(layer["before"].get(f) or 0) for layer in layers), default=0.0) or 1.0 for f, _, _ in COSTS}
    rows = []
    for layer in layers:
        before, after = layer["before"], layer.get("after") or {}
        dropped = not layer.get("after")
        kept = float(after.get("out") or 0) / float(before.get("out") or 1)
        costs = []
        for field, _, show in COSTS:
            sides = before.get(field), (0 if before.get(field) is not None else None) if dropped else after.get(field)
            if sides == (None, None):
                costs.append(Bar(formats.DASH))
                continue
            lengths = [100 * float(v or 0) / most[field] for v in sides]
            costs.append(Bar(_moved(*(show(v) for v in sides)), *(round(v, 1) for v in lengths)))
        rows.append(
            LayerRow(
                name=str(layer.get("name", "")),
                kind=_kind(str(layer.get("kind", "")), before),
                dropped=dropped,
                inputs="" if dropped else _moved(str(before.get("in", "")), str(after.get("in", ""))),
                outputs=Bar(_moved(str(before.get("out", "")), "0" if dropped else str(after.get("out", ""))), 100, 100 * kept),
                rank=_form(after) or ("" if not _form(before) else "dense"),
                bits="" if dropped or not after.get("bits") else {32: "fp32", 8: "int8"}.get(after["bits"], str(after["bits"])),
                costs=tuple(costs),
            )
        )
    return rows


def _kind(kind: str, shape: Json) -> str:
    kernel = shape.get("kernel")
    if kind != "conv" or not kernel:
        return kind
    size = "×".join(map(str, kernel)) if isinstance(kernel, list) else f"{kernel}×{kernel}"
    return f"conv {size}" + (f", {shape['groups']} groups" if (shape.get("groups") or 1) > 1 else "")


def layer_totals(layers: Sequence[Json]) -> list[str]:
    """The sums of every cost over all layers, before and after, in the order of COSTS."""
    totals = []
    for field, _, show in COSTS:
        if any(layer["before"].get(field) is None for layer in layers):
            totals.append("")
            continue
        sums = [sum((layer.get(side) or {}).get(field) or 0 for layer in layers) for side in ("before", "after")]
        totals.append(_moved(*(show(v) for v in sums)))
    return totals


def layer_summary(layers: Sequence[Json]) -> str:
    """Counts what was done: ``14 of 20 layers are narrower, 3 factorised, 12 in int8, 2 dropped.``"""
    kept = [layer for layer in layers if layer.get("after")]
    parts = (
        ("narrower", sum(layer["after"].get("out", 0) < layer["before"].get("out", 0) for layer in kept)),
        ("factorised", sum(bool(_form(layer["after"])) for layer in kept)),
        ("in int8", sum(layer["after"].get("bits") == 8 for layer in kept)),
        ("dropped", len(layers) - len(kept)),
    )
    done = [f"{number} {words}" for words, number in parts if number]
    return f"Of {len(layers)} layers: " + (", ".join(done) if done else "none was changed") + "."


def top_confusions(data: Json, most: int = 8) -> list[Row]:
    """The mistakes whose number changed most: true class, predicted class, before and after."""
    if not data.get("original") or not data.get("compressed"):
        return []
    classes = [str(name) for name in data["classes"]]
    before, after = np.asarray(data["original"], dtype=int), np.asarray(data["compressed"], dtype=int)
    change = (after - before) * (1 - np.eye(len(classes), dtype=int))
    order = np.argsort(-np.abs(change), axis=None, kind="stable")[:most]
    rows = []
    for i, j in zip(*np.unravel_index(order, change.shape)):
        if change[i, j]:
            words = f"{classes[i]} taken for {classes[j]}"
            sign = f"{change[i, j]:+d}".replace("-", formats.MINUS)
            rows.append(Row(words, str(before[i, j]), str(after[i, j]), sign))
    return rows


def refused_groups(refused: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Refused options by reason, the most frequent reason first."""
    counts = Counter(refused.values())
    return [(reason, [name for name, why in refused.items() if why == reason]) for reason, _ in counts.most_common()]


def final_table(metrics: Json) -> Table:
    """The before/after table for the terminal.

    Args:
        metrics: ``metrics.json`` of an artifact.

    Example:
        >>> final_table({"original": {"parameters": 200}, "compressed": {"parameters": 100}}).row_count
        1
    """
    table = Table(title=conditions(metrics) or None, caption=paired_test(metrics) or None, title_style="dim")
    table.add_column("")
    for name in ("original", "compressed", "change"):
        table.add_column(name, justify="right", style="bold green" if name == "compressed" else None)
    for row in comparison(metrics):
        table.add_row(row.label, row.before, row.after, row.change)
    return table
