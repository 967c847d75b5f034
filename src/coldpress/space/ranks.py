"""Which factorisations a layer may be given, and at which ranks."""

from __future__ import annotations

from dataclasses import replace

from coldpress.plan import KEEP, LayerShape, Method, Option

FRACTIONS = (0.5, 0.25, 0.125)
LEAST_SAVING = 0.1
LEAST_WEIGHTS = 1024


def rank_options(shape: LayerShape, fractions: tuple[float, ...] = FRACTIONS) -> tuple[Option, ...]:
    """ "keep", then every factorisation that saves at least a tenth of the layer's weights, cheapest last.

    Convolutions with a kernel above 1 x 1 may become svd, spatial or tucker; all others svd. Ranks are fractions of
    the full rank, in steps of 16 (of 4 where the layer is narrow).

    Args:
        shape: the dense layer.
        fractions: ranks as fractions of the narrower side.
    """
    keep = Option(KEEP)
    if shape.groups > 1 or shape.weights < LEAST_WEIGHTS:
        return (keep,)
    found: dict[str, Option] = {}
    for fraction in fractions:
        for method, rank in _candidates(shape, fraction):
            factored = replace(shape, method=method, rank=rank)
            if factored.factors_pay and factored.weights <= (1 - LEAST_SAVING) * shape.weights:
                label = f"{method} {'x'.join(map(str, rank))}"
                found[label] = Option(label, method=method, rank=rank)
    ordered = sorted(found.values(), key=lambda o: -replace(shape, method=o.method, rank=o.rank).macs)
    return (keep, *ordered)


def _candidates(shape: LayerShape, fraction: float) -> list[tuple[Method, tuple[int, ...]]]:
    narrow = min(shape.in_channels, shape.out_channels)
    if shape.kind == "linear" or shape.kernel == (1, 1):
        return [("svd", (_step(fraction * narrow),))]
    # the first factor of svd and spatial may be wider than the narrower side, but its output rank cannot
    svd = _step(fraction * min(shape.out_channels, shape.in_channels * shape.kernel[0] * shape.kernel[1]))
    spatial = _step(fraction * min(shape.in_channels * shape.kernel[0], shape.out_channels * shape.kernel[1]))
    tucker = (_step(fraction * shape.in_channels), _step(fraction * shape.out_channels))
    return [("svd", (svd,)), ("spatial", (spatial,)), ("tucker", tucker)]


def _step(rank: float) -> int:
    step = 16 if rank >= 32 else 4
    return max(step, round(rank / step) * step)
