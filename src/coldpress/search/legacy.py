"""The published search, to the letter: one angle for all units, turned by whether the trial beat the best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from coldpress.errors import SearchError
from coldpress.search.scales import Scale
from coldpress.search.solutions import Solution, dominates

STEP = 0.05
"""Radians, up after a trial that beat the best, down after any other."""


@dataclass(frozen=True)
class SharedAngle:
    """One angle for every parameter, started at pi/4 and not bounded.

    Each parameter has two options, low and high; high is chosen with probability ``sin(theta) ** 2``. As the turn
    depends neither on the unit nor on what was sampled for it, this is a random search whose mean drifts.
    """

    theta: float = math.pi / 4
    best: Solution | None = None

    def observe(
        self, number: int, name: str, distribution: BaseDistribution, generator: np.random.Generator, attempt: int = 0
    ) -> Any:
        """The second of the two options with probability ``sin(theta) ** 2``, else the first.

        Raises:
            SearchError: the parameter has not two options.
        """
        low, high = two_options(name, distribution)
        return high if generator.random() < math.sin(self.theta) ** 2 else low

    def learn(self, seen: Solution) -> SharedAngle:
        """The angle after one more trial."""
        if seen.losses is not None and (self.best is None or dominates(seen, self.best)):
            return SharedAngle(self.theta + STEP, seen)
        return SharedAngle(self.theta - STEP, self.best)


def two_options(name: str, distribution: BaseDistribution) -> tuple[Any, Any]:
    """The low and the high option of a parameter.

    Raises:
        SearchError: it has more or fewer than two.
    """
    if isinstance(distribution, CategoricalDistribution):
        options = distribution.choices
    else:
        scale = Scale.of(distribution)
        options = (scale.value_at(0), scale.value_at(1)) if scale.levels == 2 else ()
    if len(options) != 2:
        raise SearchError(
            f"parameter {name!r} is {distribution}; the published rule (legacy=True) knows only two options for each, "
            "[low, high]: suggest a categorical of two choices, or use legacy=False"
        )
    return options[0], options[1]
