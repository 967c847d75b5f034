"""Q-bits and q-dits: unordered options held as amplitudes, observed by their squares, rotated, kept off certainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from coldpress.search.scales import Scale


@dataclass(frozen=True)
class QDit:
    """One parameter of k unordered options; with k = 2 it is a q-bit.

    Args:
        distribution: a categorical distribution, or a numerical one of two levels.
        amplitudes: one for each option (k,), not negative, of unit length. Option i is observed with probability
            ``amplitudes[i] ** 2``.
    """

    distribution: BaseDistribution
    amplitudes: tuple[float, ...]
    _scale: Scale | None = field(default=None, repr=False, compare=False)

    @classmethod
    def start(cls, distribution: BaseDistribution) -> QDit:
        """The even superposition: every option is equally likely."""
        if isinstance(distribution, CategoricalDistribution):
            count, scale = len(distribution.choices), None
        else:
            scale = Scale.of(distribution)
            count = scale.levels or 0
        return cls(distribution, (1.0 / math.sqrt(count),) * count, scale)

    def on(self, distribution: BaseDistribution) -> QDit:
        """This state where the options are the same, else a fresh one."""
        same = distribution is self.distribution or distribution == self.distribution
        return self if same else QDit.start(distribution)

    def observe(self, generator: np.random.Generator, epsilon: float) -> Any:
        """An option's value, drawn by squared amplitude, each with a probability of ``epsilon / (k - 1)`` or more."""
        index = draw(floored([amplitude**2 for amplitude in self.amplitudes], epsilon), generator)
        return self.distribution.choices[index] if self._scale is None else self._scale.value_at(index)

    def rotated(self, observed: Any, best: Any, rotation: float, epsilon: float) -> QDit:
        """The state turned by ``rotation`` (radians) toward the best's option, unless that one was observed."""
        seen, target = self._index(observed), self._index(best)
        if seen == target:
            return self
        turned = bound(rotate(self.amplitudes, target, rotation), epsilon)
        return QDit(self.distribution, turned, self._scale)

    def settled(self, best: Any) -> QDit:
        """The same state: what an option's success teaches is in the best itself."""
        return self

    def _index(self, value: Any) -> int:
        if self._scale is None:
            return int(self.distribution.to_internal_repr(value))
        return self._scale.index_of(value)


def rotate(amplitudes: Sequence[float], target: int, angle: float) -> tuple[float, ...]:
    """Turn a state by ``angle`` in the plane that it spans with the basis vector ``target``, not past that vector.

    With two options this is the rotation gate of Han and Kim (2002), with the sign that their look-up table gives.

    Args:
        amplitudes: (k,), not negative, of unit length.
        target: index of the option to turn to.
        angle: radians, not negative.
    """
    across = math.sqrt(sum(a * a for i, a in enumerate(amplitudes) if i != target))
    if across == 0.0:
        return tuple(amplitudes)
    left = max(math.atan2(across, amplitudes[target]) - angle, 0.0)
    shrink = math.sin(left) / across
    return tuple(math.cos(left) if i == target else a * shrink for i, a in enumerate(amplitudes))


def bound(amplitudes: Sequence[float], epsilon: float) -> tuple[float, ...]:
    """Keep every option's probability at ``epsilon / (k - 1)`` or more, and so each at ``1 - epsilon`` or less.

    With two options this is the H-epsilon gate of Han and Kim (2004). The options above the floor share, in proportion,
    what those below it are given.

    Args:
        amplitudes: (k,), not negative, of unit length.
        epsilon: from 0 to 0.5.
    """
    return tuple(math.sqrt(p) for p in floored([a * a for a in amplitudes], epsilon))


def floored(probabilities: list[float], epsilon: float) -> list[float]:
    """The probabilities (k,) raised to ``epsilon / (k - 1)`` where they are below it, and still of sum 1."""
    floor = epsilon / max(len(probabilities) - 1, 1)
    held: set[int] = set()
    while low := [i for i, p in enumerate(probabilities) if i not in held and p < floor]:
        held.update(low)
        if len(held) == len(probabilities):  # all are at the floor but for rounding: the floor is even
            return [1.0 / len(probabilities)] * len(probabilities)
        total = sum(p for i, p in enumerate(probabilities) if i not in held)
        share = (1.0 - floor * len(held)) / total
        probabilities = [floor if i in held else p * share for i, p in enumerate(probabilities)]
    return probabilities


def draw(probabilities: Sequence[float], generator: np.random.Generator) -> int:
    """An index, drawn with these probabilities (k,)."""
    point = generator.random() * sum(probabilities)
    for index, probability in enumerate(probabilities):
        point -= probability
        if point < 0.0:
            return index
    return len(probabilities) - 1
