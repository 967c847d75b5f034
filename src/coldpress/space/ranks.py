"""Which factorisations a layer may be given, and at which ranks."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from coldpress.layer_shape import LayerShape, Method, sides
from coldpress.plan import KEEP, Option

FRACTIONS = (0.5, 0.25, 0.125)
METHODS: tuple[Method, ...] = ("svd", "spatial", "tucker")
"""What is offered unless more is asked for."""
MOST_UNKNOWNS = 4096
"""Of a core of a tensor train, for one output: its least squares take the cube of that."""
LEAST_SAVING = 0.1
LEAST_WEIGHTS = 1024


def rank_options(
    shape: LayerShape, fractions: tuple[float, ...] = FRACTIONS, methods: Collection[Method] = METHODS
) -> tuple[Option, ...]:
    """ "keep", then every factorisation that saves at least a tenth of the layer's weights, cheapest last.

    Convolutions with a kernel above 1 x 1 may become svd, spatial, tucker or cp; linear layers svd or a tensor train;
    all others svd. Ranks are fractions of the full rank (of cp and tensor trains: of the rank at which nothing is
    saved), in steps of 16 (of 4 where the layer is narrow).

    Args:
        shape: the dense layer.
        fractions: ranks as fractions.
        methods: those that are offered.
    """
    keep = Option(KEEP)
    if shape.groups > 1 or shape.weights < LEAST_WEIGHTS:
        return (keep,)
    found: dict[str, Option] = {}
    for fraction in fractions:
        for method in methods:
            rank = _rank(shape, fraction, method)
            if rank is None:
                continue
            factored = replace(shape, method=method, rank=rank)
            saves = factored.factors_pay and factored.weights <= (1 - LEAST_SAVING) * shape.weights
            if saves and _fits(factored):
                label = f"{method} {'x'.join(map(str, rank))}"
                found[label] = Option(label, method=method, rank=rank)
    ordered = sorted(found.values(), key=lambda o: -replace(shape, method=o.method, rank=o.rank).macs)
    return (keep, *ordered)


def _rank(shape: LayerShape, fraction: float, method: Method) -> tuple[int, ...] | None:
    """The rank of a factorisation; None where such a layer has none of this form."""
    whole = shape.kind == "linear" or shape.kernel == (1, 1)
    if whole and not (method == "svd" or (method == "tensor-train" and shape.kind == "linear")):
        return None
    if not whole and method == "tensor-train":
        return None
    if method in ("cp", "tensor-train"):  # their full rank is far above the one at which they save nothing
        each = replace(shape, method=method, rank=(1,)).weights
        return (_step(fraction * shape.weights / each),)
    return tuple(_step(fraction * full) for full in replace(shape, method=method).full_rank)


def _fits(shape: LayerShape) -> bool:
    """Whether the cores of a tensor train are fitted by systems of equations of a reasonable size."""
    if shape.method != "tensor-train":
        return True
    return shape.rank[0] * max(sides(shape.in_channels)) <= MOST_UNKNOWNS


def _step(rank: float) -> int:
    step = 16 if rank >= 32 else 4
    return max(step, round(rank / step) * step)
