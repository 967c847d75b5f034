"""Costs at any widths: those of the tables where these offer them, with slopes that are exact differences."""

from __future__ import annotations

import numpy as np
import pytest

from coldpress.cost import macs_cost, size_cost
from coldpress.cost.widths import WidthCost
from coldpress.space.widths import with_widths
from tiny import build, inputs_of, space_of


@pytest.mark.parametrize("name", ["padded shortcuts", "concatenation", "depthwise and grouped"])
def test_offered_widths_cost_what_the_tables_say(name: str) -> None:
    space = space_of(build(name), inputs_of(name), "width")
    rng = np.random.default_rng(0)
    pairs = [
        (WidthCost(space, lambda shape: shape.macs, 5.0), macs_cost(space, 5.0)),
        (WidthCost(space, lambda shape: shape.bytes), size_cost(space)),
    ]
    for _ in range(5):
        choice = [int(rng.integers(len(unit.options))) for unit in space.units]
        widths = np.array([unit.options[o].channels for unit, o in zip(space.units, choice)])
        for cost, table in pairs:
            assert cost.value(widths) == pytest.approx(table.value(choice))


def test_slopes_are_what_one_channel_changes() -> None:
    space = space_of(build("concatenation"), inputs_of("concatenation"), "width")
    cost = WidthCost(space, lambda shape: shape.macs)
    widths = cost.full // 2
    slopes = cost.slopes(widths, np.ones_like(widths))
    for u in range(len(widths)):
        more, less = widths.copy(), widths.copy()
        more[u], less[u] = widths[u] + 1, widths[u] - 1
        assert slopes[u] == pytest.approx((cost.value(more) - cost.value(less)) / 2)
    assert (slopes > 0).all()


def test_a_width_that_was_not_offered_can_be() -> None:
    space = space_of(build("concatenation"), inputs_of("concatenation"), "width")
    unit = max(space.units, key=lambda unit: space.groups[unit.name].channels)
    offered = {option.channels for option in unit.options}
    width = next(w for w in range(1, space.groups[unit.name].channels) if w not in offered)
    narrowed = with_widths(space, {unit.name: width})
    assert [option.channels for option in narrowed.unit(unit.name).options] == [unit.options[0].channels, width]
    for other in space.units:
        if other.name != unit.name and other.kind == "width":
            keep, half = narrowed.unit(other.name).options
            assert keep == other.options[0]
            assert half in other.options[1:]
            assert 0.25 < (half.channels or 0) / (keep.channels or 1) < 0.75
