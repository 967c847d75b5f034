"""Draws the README's picture from the figures of a finished run.

    python docs/picture.py RUN docs/result.svg

RUN is the folder that ``coldpress compress`` or ``coldpress demo`` wrote.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from coldpress.report import formats

WIDTH, HEIGHT = 860, 300
GREY, COLOUR, INT8, TEXT, FAINT = "#b8bec6", "#0b7fab", "#e08a1e", "#1f2933", "#6b7683"


def text(x: float, y: float, words: str, *, size: int = 13, colour: str = TEXT, anchor: str = "start") -> str:
    """One line of words."""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="{colour}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, title: str = "") -> str:
    """A bar, with words that show under the pointer."""
    tip = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" fill="{colour}">{tip}</rect>'
    )


def bars(metrics: dict[str, Any], x: float, y: float, length: float) -> list[str]:
    """Latency, file and MACs: the original's bar above the compressed model's."""
    before, after = metrics["original"], metrics["compressed"]
    rows = (
        ("Latency", before["latency_ms"]["median"], after["latency_ms"]["median"], formats.milliseconds, "faster"),
        ("ONNX file", before["file_bytes"], after["file_bytes"], formats.size, "smaller"),
        ("MACs", before["macs"], after["macs"], formats.scaled, "fewer"),
    )
    found = []
    for i, (name, old, new, show, better) in enumerate(rows):
        top = y + 62 * i
        worse = {"faster": "slower", "smaller": "larger", "fewer": "more"}[better]
        most = max(old, new)
        found.append(text(x, top, name))
        found.append(text(x + length, top, formats.ratio(old, new, better, worse), colour=COLOUR, anchor="end"))
        for value, colour, under in ((old, GREY, 7), (new, COLOUR, 25)):
            found.append(box(x, top + under, length * value / most, 14, colour))
            inside = length * value / most > 90
            place = (x + length * value / most + (-5 if inside else 5), top + under + 11)
            tone = ("#ffffff" if colour == COLOUR else TEXT) if inside else TEXT
            found.append(text(*place, show(value), size=11, colour=tone, anchor="end" if inside else "start"))
    return found


def strip(layers: Sequence[dict[str, Any]], x: float, base: float, width: float, height: float) -> list[str]:
    """Every layer's output channels, before in grey and after in colour."""
    most = max(layer["before"]["out"] for layer in layers)
    step = width / len(layers)
    found = []
    for i, layer in enumerate(layers):
        before, after = layer["before"], layer.get("after")
        left, bar = x + i * step, max(step - 3, 1.5)
        tall = height * before["out"] / most
        found.append(box(left, base - tall, bar, tall, GREY, f"{layer['name']}: {before['out']} channels"))
        if after is None:
            continue
        low = height * after["out"] / most
        how = "int8" if after["bits"] == 8 else "fp32"
        rank = f", {after['method']} of rank {after['rank']}" if after["method"] != "dense" else ""
        words = f"{layer['name']}: {after['out']} of {before['out']} channels, {how}{rank}"
        found.append(box(left, base - low, bar, low, INT8 if after["bits"] == 8 else COLOUR, words))
    return found


def picture(metrics: dict[str, Any], details: dict[str, Any]) -> str:
    """The whole drawing."""
    change = metrics.get("comparison", {}).get("difference")
    accuracy = f"accuracy {formats.percent(metrics['original']['accuracy'], 2)} to " if change is not None else ""
    if change is not None:
        accuracy += f"{formats.percent(metrics['compressed']['accuracy'], 2)} ({formats.signed(change)} points, "
        accuracy += f"{metrics['comparison']['split']})"
    latency = metrics["compressed"]["latency_ms"]
    plural = "" if latency["threads"] == 1 else "s"
    conditions = f"{latency['runtime']}, batch {latency['batch']}, {latency['threads']} thread{plural}; grey: original"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif">',
        box(0, 0, WIDTH, HEIGHT, "#ffffff"),
        text(24, 34, f"{metrics['name']}: {accuracy}", size=17),
        text(24, 54, conditions, size=12, colour=FAINT),
        *bars(metrics, 24, 92, 330),
        text(400, 92, "Channels of every layer, before and after"),
        *strip(details["layers"], 400, 252, 436, 140),
        box(400, 266, 10, 10, COLOUR),
        text(415, 275, "fp32", size=12),
        box(462, 266, 10, 10, INT8),
        text(477, 275, "int8", size=12),
        box(524, 266, 10, 10, GREY),
        text(539, 275, "removed", size=12),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main() -> None:
    """Read the run and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    metrics, details = (json.loads((given.run / name).read_text()) for name in ("metrics.json", "details.json"))
    given.out.write_text(picture(metrics, details), encoding="utf-8")


if __name__ == "__main__":
    main()
