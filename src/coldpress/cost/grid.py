"""Which layers to measure, and in what order: coarse widths first, a graph full at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from coldpress.layer_shape import LayerShape

# One graph holds at most this much, so that its layers meet caches about as full as a network's do.
GRAPH_LAYERS = 24
GRAPH_BYTES = 12 << 20


def plain(shape: LayerShape) -> LayerShape:
    """One call of the layer as the table knows it: all add a bias there, since batch norm folds into one."""
    return replace(shape, bias=True, calls=1)


def family(shape: LayerShape) -> LayerShape:
    """What layers have in common that differ in widths alone (grouped ones: channels a group stay)."""
    g = shape.groups
    widths = (0, 0) if g == 1 else (shape.in_channels // g, shape.out_channels // g)
    return replace(plain(shape), in_channels=widths[0], out_channels=widths[1], groups=0 if g > 1 else 1)


def ordered(shapes: set[LayerShape], measured: set[str]) -> list[list[LayerShape]]:
    """Layers not measured yet in levels, each about halving the distance between the widths of a family."""
    families: dict[LayerShape, list[LayerShape]] = defaultdict(list)
    for shape in shapes:
        families[family(shape)].append(shape)
    levels: dict[int, list[LayerShape]] = defaultdict(list)
    for members in families.values():
        level_in = _levels(sorted({shape.in_channels for shape in members}))
        level_out = _levels(sorted({shape.out_channels for shape in members}))
        for shape in members:
            if key(shape) not in measured:
                levels[max(level_in[shape.in_channels], level_out[shape.out_channels])].append(shape)
    return [sorted(levels[number], key=key) for number in sorted(levels)]


def _levels(values: Sequence[int]) -> dict[int, int]:
    """0 for both ends, 1 for the middle, 2 for the quarters, and so on."""
    last = len(values) - 1
    found: dict[int, int] = {}
    step = max(last, 1)
    number = 0
    while len(found) < len(values):
        for i in (*range(0, last + 1, step), last):
            found.setdefault(values[i], number)
        step, number = max(step // 2, 1), number + 1
    return found


def chunks(shapes: Sequence[LayerShape], seed: int = 0) -> Iterable[list[LayerShape]]:
    """Shuffled, so that no one graph is full of the largest; cut by number and by bytes."""
    order = np.random.default_rng(seed).permutation(len(shapes))
    chunk: list[LayerShape] = []
    held = 0
    for i in order:
        size = shapes[i].bytes
        if chunk and (len(chunk) == GRAPH_LAYERS or held + size > GRAPH_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(shapes[i])
        held += size
    if chunk:
        yield chunk


def key(shape: LayerShape) -> str:
    """A dense layer as text, all that decides its time and nothing else."""
    fields: dict[str, Any] = asdict(plain(shape))
    for name in ("bias", "method", "rank", "dynamic", "calls", "tokens"):
        del fields[name]
    return json.dumps([*fields.values(), *(["dynamic"] if shape.dynamic else [])])


def shape_of(key: str) -> LayerShape:
    """The layer that ``key`` names. Raises ValueError or TypeError where it names none."""
    kind, ins, outs, kernel, stride, padding, dilation, groups, size, bits, *form = json.loads(key)
    if form not in ([], ["dynamic"]):
        raise ValueError(f"a layer in the form {form} is unknown")
    area = tuple(kernel), tuple(stride), tuple(padding), tuple(dilation)
    return LayerShape(kind, ins, outs, *area, groups, tuple(size), bits=bits, dynamic=bool(form))
