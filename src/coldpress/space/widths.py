"""How many channels a group may keep."""

from __future__ import annotations

from coldpress.plan import KEEP, ChannelGroup, Option

FRACTIONS = (0.0625, 0.125, 0.1875, 0.25, 0.3125, 0.375, 0.5, 0.625, 0.75, 0.875)


def width_step(channels: int, atom: int = 1) -> int:
    """The step of widths: 16 where vector units want it, an eighth of the channels where the network is narrow."""
    step = 16 if channels >= 128 else max(channels // 8, 1)
    return -(-step // atom) * atom


def width_options(group: ChannelGroup) -> tuple[Option, ...]:
    """ "keep", then the widths below it, widest first: eighths, sixteenths where few are left, in whole steps."""
    step = width_step(group.channels, group.atom)
    widths = {max(step, round(fraction * group.channels / step) * step) for fraction in FRACTIONS}
    keep = Option(KEEP, channels=group.channels)
    below = sorted((width for width in widths if width < group.channels), reverse=True)
    return (keep, *(Option(f"{width}/{group.channels}", channels=width) for width in below))
