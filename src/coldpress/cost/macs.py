"""Multiply-accumulates of a plan."""

from __future__ import annotations

from coldpress.cost.factors import layer_cost
from coldpress.plan import Space
from coldpress.problem import Cost


def macs_cost(space: Space, constant: float = 0.0) -> Cost:
    """Multiply-accumulates for one sample in convolutions and linear layers, exact.

    Args:
        space: units and layers.
        constant: multiply-accumulates of layers that are not in the space.
    """
    return layer_cost("macs", space, lambda shape: shape.macs, constant)
