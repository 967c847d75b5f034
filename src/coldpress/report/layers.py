"""What happened to every layer: width, rank, bits and costs, before and after, as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coldpress.report import formats

Json = Mapping[str, Any]


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


def _form(side: Json) -> str:
    rank = side.get("rank") or []
    method = side.get("method") or "dense"
    return "" if method == "dense" else f"{method} {', '.join(map(str, rank if isinstance(rank, list) else [rank]))}"


def _moved(before: str, after: str) -> str:
    return after if before == after else f"{before} {formats.ARROW} {after}"


def rows(layers: Sequence[Json]) -> list[LayerRow]:
    """Every layer before and after; bars of a cost are relative to the costliest layer, those of width to its own."""
    most = {f: max((float(layer["before"].get(f) or 0) for layer in layers), default=0.0) or 1.0 for f, _, _ in COSTS}
    table = []
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
        table.append(
            LayerRow(
                name=str(layer.get("name", "")),
                kind=_kind(str(layer.get("kind", "")), before) + _calls(before),
                dropped=dropped,
                inputs="" if dropped else _moved(str(before.get("in", "")), str(after.get("in", ""))),
                outputs=Bar(
                    _moved(str(before.get("out", "")), "0" if dropped else str(after.get("out", ""))), 100, 100 * kept
                ),
                rank=_form(after) or ("" if not _form(before) else "dense"),
                bits="" if dropped else _bits(after),
                costs=tuple(costs),
            )
        )
    return table


def _kind(kind: str, shape: Json) -> str:
    kernel = shape.get("kernel")
    if kind != "conv" or not kernel:
        return kind
    size = "×".join(map(str, kernel)) if isinstance(kernel, list) else f"{kernel}×{kernel}"
    return f"conv {size}" + (f", {shape['groups']} groups" if (shape.get("groups") or 1) > 1 else "")


def _bits(shape: Json) -> str:
    if shape.get("form"):
        return str(shape["form"])
    if not shape.get("bits"):
        return ""
    name = {32: "fp32", 8: "int8"}.get(shape["bits"], str(shape["bits"]))
    return f"{name}, dynamic" if shape.get("dynamic") else name


def _calls(shape: Json) -> str:
    calls = shape.get("calls") or 1
    return f", {calls} calls" if calls > 1 else ""


def totals(layers: Sequence[Json]) -> list[str]:
    """The sums of every cost over all layers, before and after, in the order of COSTS."""
    totals = []
    for field, _, show in COSTS:
        if any(layer["before"].get(field) is None for layer in layers):
            totals.append("")
            continue
        sums = [sum((layer.get(side) or {}).get(field) or 0 for layer in layers) for side in ("before", "after")]
        totals.append(_moved(*(show(v) for v in sums)))
    return totals


def summary(layers: Sequence[Json]) -> str:
    """Counts what was done: ``14 of 20 layers are narrower, 3 factorised, 12 in int8, 2 dropped.``"""
    kept = [layer for layer in layers if layer.get("after")]
    parts = (
        ("narrower", sum(layer["after"].get("out", 0) < layer["before"].get("out", 0) for layer in kept)),
        ("factorised", sum(bool(_form(layer["after"])) for layer in kept)),
        ("in int8", sum(layer["after"].get("bits") == 8 and not layer["after"].get("form") for layer in kept)),
        ("with weights in few bits", sum(bool(layer["after"].get("form")) for layer in kept)),
        ("dropped", len(layers) - len(kept)),
    )
    done = [f"{number} {words}" for words, number in parts if number]
    return f"Of {len(layers)} layers: " + (", ".join(done) if done else "none was changed") + "."
