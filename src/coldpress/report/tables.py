"""The tables of a run: before and after, prediction against measurement, mistakes, for the page and the terminal."""

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

    @property
    def worse(self) -> bool:
        """Whether the change is for the worse: it is not shown as a result then."""
        return self.change.startswith(formats.MINUS) or self.change.endswith(("slower", "larger", "more", "higher"))


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
    own = metrics.get("metric") or {}
    if own and "perplexity" not in after:
        pair = own.get("original"), own.get("compressed")
        label = own["name"] + (f" ({own['split']})" if own.get("split") else "")
        add(label, pair, formats.three, "", "the task's metric; higher is better")
    pair = before.get("accuracy_interval"), after.get("accuracy_interval")
    add("95 % interval", pair, formats.interval, _difference_interval(metrics), "of the difference: paired")
    pair = before.get("perplexity"), after.get("perplexity")
    label = f"Perplexity ({split})" if split else "Perplexity"
    add(label, pair, formats.three, formats.ratio(*pair, "lower", "higher"), "exponential of the loss a token")
    scores = before.get("scores") or {}, after.get("scores") or {}
    means = "mean over classes"
    for field, label, note in (
        ("precision", "Precision", means),
        ("recall", "Recall", means),
        ("f1", "F1", means),
        ("roc_auc", "Area under the ROC curve", ""),
    ):
        first, second = scores[0].get(field), scores[1].get(field)
        change = "" if first is None or second is None else f"{formats.signed(second - first)} points"
        add(label, (first, second), lambda v: formats.percent(v, 2), change, note)
    medians = times[0].get("median"), times[1].get("median")
    add(
        "Latency, median",
        medians,
        formats.milliseconds,
        formats.ratio(*medians, "faster", "slower"),
        conditions(metrics),
    )
    pair = times[0].get("spread"), times[1].get("spread")
    add("Latency, spread", pair, formats.milliseconds, "", "width of the middle half of the runs")
    memory = metrics.get("memory") or {}
    if memory.get("latency_ms"):
        note = "in a process of its own under the kernel's limit, not in turns with the original"
        label = f"Latency within {formats.size(memory['limit'])} of data"
        add(label, (None, memory["latency_ms"]), formats.milliseconds, "", note)
        add("Memory, most resident", (None, memory["peak"]), formats.size, "", "the runtime's code included")
    modelled = metrics.get("modelled") or {}
    if modelled:
        pair = modelled["original_ms"], modelled["compressed_ms"]
        note = f"not measured: a roofline of {modelled['source']}; {_model_error(modelled.get('host_error'))}"
        label = f"Latency on {modelled['title']}, modelled"
        add(label, pair, formats.milliseconds, formats.ratio(*pair, "faster", "slower"), note)
    for field, label, show in (
        ("file_bytes", "ONNX file", formats.size),
        ("parameters", "Parameters", formats.count),
        ("macs", "MACs", formats.scaled),
    ):
        pair = before.get(field), after.get(field)
        words = ("smaller", "larger") if field == "file_bytes" else ("fewer", "more")
        add(label, pair, show, formats.ratio(*pair, *words))
    pair = before.get("packed_bytes"), after.get("packed_bytes")
    add("All tensors, packed", pair, formats.size, formats.ratio(*pair, "smaller", "larger"), "to store; not to run")
    pair = before.get("average_bits"), after.get("average_bits")
    add("Bits a weight", pair, formats.three, "", "of the layers that can be rounded, scales included")
    pair = before.get("sparsity"), after.get("sparsity")
    if any(pair):
        add("Zeros among the weights", pair, formats.percent, "", "no speed comes of these")
    return rows


def _model_error(error: Json | None) -> str:
    """How far such a model is off where times were measured too."""
    error = error or {}
    if isinstance(error.get("layers"), int):  # as runs before networks were compared wrote
        error = {"layers": {**error, "count": error["layers"]}}
    told = [
        f"of {known['count']} {what} measured on this machine such a model gives {known['median']:.2f} times the "
        f"seconds in the median, half of them within a factor of {known['spread']:.2f} of that"
        for what, known in (("layers", error.get("layers")), ("whole networks", error.get("networks")))
        if known
    ]
    unknown = "how far such a model is off is not known here: coldpress inspect --latency measures layers"
    return "; ".join(told) or unknown


def conditions(metrics: Json) -> str:
    """How latency was measured: ``ONNX Runtime 1.31, batch 1, 1 thread``."""
    side = (
        (metrics.get("compressed") or {}).get("latency_ms") or (metrics.get("original") or {}).get("latency_ms") or {}
    )
    words = [str(side["runtime"])] if side.get("runtime") else []
    if side.get("batch") is not None:
        words.append(f"batch {side['batch']}")
    if side.get("threads") is not None:
        words.append(f"{side['threads']} thread{'' if side['threads'] == 1 else 's'}")
    return ", ".join(words)


def _difference(metrics: Json) -> str:
    sides = [(metrics.get(side) or {}).get("accuracy") for side in ("original", "compressed")]
    difference = (metrics.get("comparison") or {}).get("difference")
    if difference is None and sides[0] is not None and sides[1] is not None:
        difference = sides[1] - sides[0]
    return f"{formats.signed(difference)} points" if formats.known(difference) else formats.DASH


def _difference_interval(metrics: Json) -> str:
    bounds = (metrics.get("comparison") or {}).get("difference_interval")
    return _points(bounds) if bounds else ""


def _points(bounds: Sequence[float]) -> str:
    return f"{formats.signed(bounds[0])} to {formats.signed(bounds[1])}"


def budget(metrics: Json) -> list[tuple[str, bool]]:
    """A sentence for every limit of the budget, as measured at the end, and whether it was kept."""
    shows = {"latency": lambda v: formats.milliseconds(v * 1e3), "size": formats.size, "macs": formats.scaled}
    names = {"latency": "Latency", "size": "ONNX file", "macs": "MACs"}
    return [
        (
            f"{names[row['quantity']]} {shows[row['quantity']](row['reached'])}, {formats.percent(row['fraction'])} of "
            f"the original's; asked for at most {row['asked']}: {'kept' if row['kept'] else 'NOT kept'}",
            bool(row["kept"]),
        )
        for row in metrics.get("budget") or ()
    ]


def factors(metrics: Json) -> tuple[str, bool, list[Row]]:
    """A sentence on whether every factor layer is as fast as the dense one, that answer, and the times of both.

    Columns are dense, factors, change; no rows where nothing is factorised.
    """
    found = metrics.get("factors") or {}
    device, layers = found.get("device", "host"), found.get("layers") or []
    slower = sum(not layer["ok"] for layer in layers)
    words = "passed" if not slower else f"NOT passed by {slower} of {len(layers)}"
    source = "times measured" if device == "host" else f"times modelled for {device}, not measured"
    rows = []
    for layer in layers:
        dense, factored = layer["dense_ms"], layer["factor_ms"]
        note = f"{layer['method']} {'x'.join(map(str, layer['rank']))}" + (", int8" if layer["bits"] == 8 else "")
        change = formats.ratio(dense, factored, "faster", "slower")
        rows.append(Row(layer["layer"], formats.milliseconds(dense), formats.milliseconds(factored), change, note))
    return f"No factor layer slower than the dense layer: {words} ({source})", not slower, rows


def paired_test(metrics: Json) -> str:
    """One sentence on whether both models differ in accuracy, or nothing where no test was made."""
    data = metrics.get("comparison") or {}
    if not formats.known(data.get("p_value")):
        return ""
    words = "a difference is" if data["p_value"] < 0.05 else "no difference is"
    sentence = f"Exact McNemar test: {formats.p_value(data['p_value'])}, at the 5 % level {words} shown"
    if data.get("discordant"):
        lost, gained = data["discordant"]
        sentence += f"; {lost:,} samples only the original had right, {gained:,} only the compressed model"
    if data.get("samples"):
        sentence += f", of {data['samples']:,}"
    if data.get("bootstrap_interval"):
        sentence += f". Paired bootstrap: 95 % interval of the change {_points(data['bootstrap_interval'])} points"
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


def interactions(metrics: Json) -> str:
    """What terms between units are worth: the measured losses of the plans chosen with and without them, in words."""
    losses = (metrics.get("predicted") or {}).get("measured_kl_by_alpha") or {}
    found = {float(alpha): loss for alpha, loss in losses.items() if formats.known(loss)}
    if 0.0 not in found or len(found) < 2:
        return ""
    others = [f"{formats.three(loss)} with {alpha:.0%} of them" for alpha, loss in sorted(found.items()) if alpha]
    plans = f"the plan chosen without terms between units measures {formats.three(found[0.0])} nats"
    return f"Within the same budget, before the re-fit, {plans}, {', '.join(others)}."


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
