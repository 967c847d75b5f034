"""How many channels a group may keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from coldpress.plan import DROP, KEEP, ChannelGroup, Option, Space

FRACTIONS = (0.0625, 0.125, 0.1875, 0.25, 0.3125, 0.375, 0.5, 0.625, 0.75, 0.875)


def width_step(channels: int, atom: int = 1) -> int:
    """The step of widths: 16 where vector units want it, an eighth of the channels where the network is narrow."""
    step = 16 if channels >= 128 else max(channels // 8, 1)
    return -(-step // atom) * atom


def width_options(group: ChannelGroup) -> tuple[Option, ...]:
    """ "keep", then the widths below it, widest first: eighths, sixteenths where few are left, in whole steps.

    Last "drop", where the group has a block that goes with its channels.
    """
    step = width_step(group.channels, group.atom)
    widths = {max(step, round(fraction * group.channels / step) * step) for fraction in FRACTIONS}
    keep = Option(KEEP, channels=group.channels)
    below = sorted((width for width in widths if width < group.channels), reverse=True)
    drop = (Option(DROP, channels=0, drop=True),) if group.block else ()
    return (keep, *(_narrowed(width, group.channels) for width in below), *drop)


def with_widths(space: Space, widths: Mapping[str, int]) -> Space:
    """The space with one way to narrow each group: to these widths, others to about half.

    Args:
        space: whose units offer steps of widths.
        widths: unit name to channels kept, between 1 and all but one of the unit's channels.
    """
    units = []
    for unit in space.units:
        if len(unit.options) > 1 and unit.kind == "width":
            channels = space.groups[unit.name].channels
            half = min(unit.options[1:], key=lambda option: abs(2 * (option.channels or 0) - channels))
            narrow = _narrowed(widths[unit.name], channels) if unit.name in widths else half
            unit = replace(unit, options=(unit.options[0], narrow))
        units.append(unit)
    return replace(space, units=tuple(units))


def _narrowed(width: int, channels: int) -> Option:
    return Option(f"{width}/{channels}", channels=width)
