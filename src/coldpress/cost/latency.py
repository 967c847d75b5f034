"""Latency of a plan, from measured layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from math import prod

import numpy as np

from coldpress.cost.factors import layer_cost, merged
from coldpress.cost.grid import plain
from coldpress.cost.table import LatencyTable, Seconds
from coldpress.layer_shape import LayerShape
from coldpress.plan import Site, Space
from coldpress.problem import Cost, Factor

__all__ = ["LatencyTable", "between_floats", "int8_pays", "latency_cost", "seconds_of", "shapes_of"]


def shapes_of(space: Space) -> set[LayerShape]:
    """Every dense layer that some plan of the space may run, factors included: what ``measure`` needs."""
    found: set[LayerShape] = set()

    def collect(shape: LayerShape) -> float:
        found.update(plain(part) for part in shape.factors() if part.kind != "embedding")
        return 0.0

    layer_cost("shapes", space, collect)
    return found


def latency_cost(
    space: Space,
    table: Seconds,
    calibration: tuple[float, float] = (1.0, 0.0),
    *,
    slow_bits: bool = False,
) -> Cost:
    """Seconds of one run of the whole model.

    What runs between layers (norms, sums, concatenations) is shared out among their calls: with a block that is dropped
    its part goes too. Where static int8 and float layers meet, the conversion is counted. A factorised layer that is
    predicted to be no faster than the dense one of the same widths is forbidden, as is int8 that is slower than fp32
    even among int8 layers.

    Args:
        space: units and layers.
        table: measured layers.
        calibration: scale and overhead in seconds, from ``calibrate``.
        slow_bits: whether int8 may be taken where it is predicted slower than fp32 (it is still smaller).
    """
    scale, overhead = calibration

    def allowed(shape: LayerShape) -> bool:
        if not shape.factors_pay:
            return False
        if shape.kind == "embedding":  # it is made smaller for its bytes
            return True
        seconds = table.seconds(shape)
        if shape.method != "dense" and seconds >= table.seconds(replace(shape, method="dense", rank=())):
            return False
        return slow_bits or shape.bits == 32 or int8_pays(table, shape)

    calls = sum(site.shape.calls for site in space.sites if site.shape.kind != "embedding")

    def seconds(shape: LayerShape) -> float:
        glue = overhead * shape.calls / calls if shape.kind != "embedding" else 0.0
        return scale * seconds_of(table, shape) + glue

    layers = layer_cost("latency", space, seconds, 0.0 if calls else overhead, allowed=allowed)
    return Cost("latency", merged((*layers.factors, *_switches(space, table, scale))), layers.constant)


def between_floats(shape: LayerShape) -> bool:
    """Whether a layer's tensors are floats even in static int8: over several positions its bias is added in floats."""
    return shape.kind == "linear" and prod(shape.input_size) > 1


def seconds_of(table: Seconds, shape: LayerShape) -> float:
    """Seconds of a layer's calls, with the conversions where they are sure to be needed."""
    converts = shape.bits == 8 and not shape.dynamic and between_floats(shape)
    return table.seconds(shape) + (_conversions(table, shape) if converts else 0.0)


def int8_pays(table: Seconds, shape: LayerShape) -> bool:
    """Whether an int8 layer is faster than in fp32; among static int8 layers fp32 would cost conversions around it."""
    floats = replace(shape, bits=32, dynamic=False)
    among = not shape.dynamic and not between_floats(shape)
    return seconds_of(table, shape) < table.seconds(floats) + (_conversions(table, shape) if among else 0.0)


def _conversions(table: Seconds, shape: LayerShape) -> float:
    """Seconds of the conversions between floats and int8 on both sides of a layer."""
    around = shape.in_channels * prod(shape.input_size), shape.out_channels * prod(shape.output_size)
    return shape.calls * sum(table.switch(elements) for elements in around)


def _switches(space: Space, table: Seconds, scale: float) -> Iterable[Factor]:
    """What it costs where a layer that hands out int8 meets one with floats, at full width.

    Where the space does not say which layers meet, those do that follow each other.
    """

    def eight(site: Site) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        options = space.units[site.bits].options if site.bits is not None else ()
        static = [option.bits == 8 and not option.dynamic for option in options]
        return np.array([each and not between_floats(site.shape) for each in static] or [False])

    layers = [site for site in space.sites if site.shape.kind != "embedding"]  # tables hand out floats
    met = [(space.sites[i], space.sites[j]) for i, j in space.meetings] or list(pairwise(layers))
    for before, after in met:
        seconds = scale * table.switch(before.shape.out_channels * prod(before.shape.output_size))
        seconds *= min(before.shape.calls, after.shape.calls)
        if (before.bits is None and after.bits is None) or before.bits == after.bits or not seconds:
            continue
        differs = seconds * (eight(before)[:, None] != eight(after)[None, :])
        if before.bits is None and after.bits is not None:
            yield Factor((after.bits,), differs[0])
        elif after.bits is None and before.bits is not None:
            yield Factor((before.bits,), differs[:, 0])
        elif before.bits is not None and after.bits is not None:
            yield Factor((before.bits, after.bits), differs)
