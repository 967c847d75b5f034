"""A small space with every kind of unit: a residual block, a concatenation and a classifier."""

from __future__ import annotations

from coldpress.layer_shape import LayerShape
from coldpress.plan import Option, Site, Source, Space, Unit


def width(name: str, *channels: int) -> Unit:
    return Unit(
        name, "width", name, tuple(Option("keep" if not i else f"w{c}", channels=c) for i, c in enumerate(channels))
    )


def conv(ins: int, outs: int, kernel: int = 3, size: int = 8) -> LayerShape:
    pad = kernel // 2
    return LayerShape("conv", ins, outs, (kernel, kernel), padding=(pad, pad), input_size=(size, size))


def block_space() -> Space:
    """stem -> (first -> second) in a block that may be dropped -> head."""
    bits = (Option("keep"), Option("int8", bits=8))
    ranks = (
        Option("keep"),
        Option("svd8", method="svd", rank=(8,)),
        Option("spatial12", method="spatial", rank=(12,)),
        Option("tucker8x8", method="tucker", rank=(8, 8)),
        Option("svd31", method="svd", rank=(31,)),
    )
    units = (
        width("stream", 32, 24, 16),
        width("inner", 32, 16, 8),
        Unit("first.rank", "rank", "first", ranks),
        Unit("first.bits", "bits", "first", bits),
        Unit("second.bits", "bits", "second", bits),
        Unit("block", "depth", "block", (Option("keep"), Option("drop", drop=True))),
    )
    stream, inner = Source(0, 32), Source(1, 32)
    sites = (
        Site("stem", conv(3, 32), output=stream),
        Site("first", conv(32, 32), (stream,), inner, rank=2, bits=3, depth=5),
        Site("second", conv(32, 32), (inner,), stream, bits=4, depth=5),
        Site("head", LayerShape("linear", 32, 10), (stream,)),
    )
    return Space(units, sites)


def concat_space() -> Space:
    """A convolution behind a concatenation of four governed parts, two channels nobody governs, and a bits unit."""
    parts = tuple(width(f"part{i}", 16, 12, 4) for i in range(4))
    units = (*parts, width("out", 24, 8), Unit("bits", "bits", "join", (Option("keep"), Option("int8", bits=8))))
    sources = tuple(Source(i, 16) for i in range(4))
    made = tuple(Site(f"part{i}", conv(3, 16), output=sources[i]) for i in range(4))
    return Space(units, (*made, Site("join", conv(66, 24), sources, Source(4, 24), bits=5)))
