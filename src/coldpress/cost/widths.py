"""Costs at any widths, and what one channel more or less changes: for choosing channels one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from coldpress.layer_shape import LayerShape
from coldpress.plan import Option, Space
from coldpress.selection import Floats, Ints

Quantity = Callable[[LayerShape], float]


class WidthCost:
    """One quantity of a space's networks as a function of the widths alone; everything else keeps.

    Args:
        space: its width units decide.
        quantity: of one layer.
        constant: of everything that is in no layer.

    Attributes:
        units: the width units' indices; widths are given in their order.
        full: all channels of each, ``(units,)``.
    """

    def __init__(self, space: Space, quantity: Quantity, constant: float = 0.0) -> None:
        self.space, self.quantity, self.constant = space, quantity, constant
        self.units = tuple(i for i, unit in enumerate(space.units) if unit.kind == "width")
        self.full = np.array([space.groups[space.units[i].name].channels for i in self.units], dtype=np.int64)
        self._sites = [[site for site in space.sites if i in site.units] for i in self.units]
        self._known: dict[LayerShape, float] = {}

    def value(self, widths: Ints) -> float:
        """Cost at ``widths``, ``(units,)``."""
        options = self._options(widths)
        return self.constant + sum(self._of(site.configured(options)) for site in self.space.sites)

    def slopes(self, widths: Ints, steps: Ints) -> Floats:
        """Change of the cost by one channel of each unit around ``widths``, at least 0, ``(units,)``.

        Args:
            widths: ``(units,)``.
            steps: channels that are looked at on either side, ``(units,)``.
        """
        found = np.zeros(len(self.units))
        for u, sites in enumerate(self._sites):
            values, ends = [], []
            for sign in (-1, 1):
                moved = widths.copy()
                moved[u] = np.clip(widths[u] + sign * steps[u], min(steps[u], self.full[u]), self.full[u])
                options = self._options(moved)
                values.append(sum(self._of(site.configured(options)) for site in sites))
                ends.append(moved[u])
            found[u] = max((values[1] - values[0]) / max(ends[1] - ends[0], 1), 0.0)
        return found

    def _options(self, widths: Ints) -> Mapping[int, Option]:
        options = {i: unit.options[0] for i, unit in enumerate(self.space.units)}
        return options | {i: Option("", channels=int(width)) for i, width in zip(self.units, widths)}

    def _of(self, shape: LayerShape | None) -> float:
        assert shape is not None
        if shape not in self._known:
            self._known[shape] = float(self.quantity(shape))
        return self._known[shape]
