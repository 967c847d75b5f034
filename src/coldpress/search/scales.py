"""The way from a number to an angle and back: ints, stepped floats, floats and log ranges on [0, pi/2]."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from optuna.distributions import BaseDistribution, IntDistribution

RIGHT_ANGLE = math.pi / 2


@dataclass(frozen=True)
class Scale:
    """A numerical range laid out on the angles from 0 (low end) to pi/2 (high end), evenly, or evenly in the log.

    Each level of a stepped range owns a cell of angles, reaching half a step to both sides.

    Args:
        low: least value.
        high: greatest value.
        step: distance of two levels; None where every value between is allowed.
        log: whether the logarithm is laid out evenly.
        whole: whether values are ints.
    """

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    @classmethod
    def of(cls, distribution: BaseDistribution) -> Scale:
        """The scale of an int or float distribution of Optuna."""
        whole = isinstance(distribution, IntDistribution)
        return cls(distribution.low, distribution.high, distribution.step, distribution.log, whole)

    @property
    def levels(self) -> int | None:
        """How many values there are; None where every value between is allowed."""
        return None if self.step is None else round((self.high - self.low) / self.step) + 1

    @cached_property
    def _ends(self) -> tuple[float, float]:
        margin = 0.0 if self.step is None else self.step / 2
        return self._even(self.low - margin), self._even(self.high + margin)

    def _even(self, value: float) -> float:
        return math.log(value) if self.log else float(value)

    @property
    def width(self) -> float:
        """Length of the range, in values or in their logarithms."""
        return self._ends[1] - self._ends[0]

    def angle(self, value: float) -> float:
        """The angle of a value; of the nearest end where it lies outside the range."""
        if value <= self.low - (self.step or 0.0) / 2:
            return 0.0
        first, last = self._ends
        if last == first:
            return 0.0
        return min((self._even(value) - first) / (last - first), 1.0) * RIGHT_ANGLE

    def value(self, angle: float) -> float:
        """The value at an angle: of a stepped range, the level whose cell it is in."""
        first, last = self._ends
        even = first + (last - first) * angle / RIGHT_ANGLE
        raw = math.exp(even) if self.log else even
        return min(max(raw, self.low), self.high) if self.step is None else self.value_at(self.index_of(raw))

    def index_of(self, value: float) -> int:
        """Number of the level nearest to a value."""
        if self.step is None or self.levels is None:
            raise ValueError("a continuous range has no levels")
        return min(max(round((value - self.low) / self.step), 0), self.levels - 1)

    def value_at(self, index: int) -> float:
        """The value of a level."""
        value = self.low + index * (self.step or 0.0)
        return int(value) if self.whole else float(min(value, self.high))

    @cached_property
    def edges(self) -> tuple[float, ...]:
        """The angles between which each level's cell lies (levels + 1,), from 0 to pi/2."""
        inner = [self.angle(self.value_at(i) - (self.step or 0.0) / 2) for i in range(1, self.levels or 0)]
        return (0.0, *inner, RIGHT_ANGLE)
