"""Ordered parameters: an angle in [0, pi/2] along the range, with a Gaussian around it that narrows as it is turned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from coldpress.search.amplitudes import draw, floored
from coldpress.search.scales import RIGHT_ANGLE, Scale

FEW_LEVELS = 24
"""Of ranges this short each level's probability is bounded from below; longer ones are drawn as if continuous."""
WIDEST = RIGHT_ANGLE / 2
"""The spread at the start: the ends of the range are 0.6 times as likely as its middle."""
NARROWEST = 1e-4 * RIGHT_ANGLE
NARROWING = 1.0
"""A turn by r radians narrows the Gaussian to exp(-NARROWING r / (pi/4)) of its width."""
WIDENING = 4.0
"""A success widens the Gaussian by this factor: the width settles where about one trial in three or four succeeds."""


@dataclass(frozen=True)
class OrderedAngle:
    """One parameter whose options have an order.

    Args:
        distribution: an int or float distribution.
        theta: centre, radians in [0, pi/2].
        spread: standard deviation, radians.
    """

    distribution: BaseDistribution
    scale: Scale
    theta: float = RIGHT_ANGLE / 2
    spread: float = WIDEST

    @classmethod
    def start(cls, distribution: BaseDistribution) -> OrderedAngle:
        """The middle of the range, spread over all of it."""
        return cls(distribution, Scale.of(distribution))

    def on(self, distribution: BaseDistribution) -> OrderedAngle:
        """This state on another range: the centre keeps its value, the Gaussian its width, within the range."""
        if distribution == self.distribution:
            return self
        fresh = OrderedAngle.start(distribution)
        if fresh.scale.log != self.scale.log:
            return fresh
        theta = fresh.scale.angle(self.scale.value(self.theta))
        spread = self.spread * self.scale.width / fresh.scale.width if fresh.scale.width > 0.0 else WIDEST
        return OrderedAngle(distribution, fresh.scale, theta, min(max(spread, NARROWEST), WIDEST))

    def probabilities(self, epsilon: float) -> list[float]:
        """Probability of each level (levels,): the share of the Gaussian in its cell, bounded from below."""
        bell = NormalDist(self.theta, self.spread)
        below = [bell.cdf(edge) for edge in self.scale.edges]
        inside = below[-1] - below[0]
        return floored([(after - before) / inside for before, after in pairwise(below)], epsilon)

    def observe(self, generator: np.random.Generator, epsilon: float) -> Any:
        """A value drawn from the Gaussian cut at both ends; evenly from all of the range with probability epsilon."""
        levels = self.scale.levels
        if levels is not None and levels <= FEW_LEVELS:
            return self.scale.value_at(draw(self.probabilities(epsilon), generator))
        anywhere, point = generator.random(), generator.random()
        if anywhere < epsilon:
            return self.scale.value(point * RIGHT_ANGLE)
        bell = NormalDist(self.theta, self.spread)
        first, last = bell.cdf(0.0), bell.cdf(RIGHT_ANGLE)
        angle = bell.inv_cdf(min(max(first + point * (last - first), 1e-12), 1.0 - 1e-12))
        return self.scale.value(min(max(angle, 0.0), RIGHT_ANGLE))

    def rotated(self, observed: Any, best: Any, rotation: float, epsilon: float) -> OrderedAngle:
        """The centre moved by at most ``rotation`` radians to the best's angle, the Gaussian narrowed."""
        seen, target = self.scale.angle(observed), self.scale.angle(best)
        if seen == target:
            return self
        theta = self.theta + min(max(target - self.theta, -rotation), rotation)
        spread = max(self.spread * math.exp(-NARROWING * rotation / (RIGHT_ANGLE / 2)), NARROWEST)
        return OrderedAngle(self.distribution, self.scale, theta, spread)

    def settled(self, best: Any) -> OrderedAngle:
        """The Gaussian widened after a success."""
        return OrderedAngle(self.distribution, self.scale, self.theta, min(self.spread * WIDENING, WIDEST))
