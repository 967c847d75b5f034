"""Bytes of a plan."""

from __future__ import annotations

from coldpress.cost.factors import layer_cost
from coldpress.plan import Space
from coldpress.problem import Cost


def size_cost(space: Space, constant: float = 0.0) -> Cost:
    """Bytes of the stored model, exact for the layers' tensors.

    Args:
        space: units and layers.
        constant: bytes of everything else: other tensors and the file's graph.
    """
    return layer_cost("size", space, lambda shape: shape.bytes, constant)
