"""Arguments that samplers share: checked whole numbers, and a clock."""

from __future__ import annotations

import math
import numbers
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldpress.errors import SamplerError


def whole(name: str, value: Any, least: int) -> int:
    """``value`` as an int.

    Raises:
        SamplerError: it is no whole number, or less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise SamplerError(f"{name} is {value!r}; give a whole number, {least} or more")
    return int(value)


def real(name: str, value: Any, above: float = -math.inf) -> float:
    """``value`` as a finite float.

    Raises:
        SamplerError: it is no finite number, or not more than ``above``.
    """
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value <= above:
        bound = "" if above == -math.inf else f" more than {above:g}"
        raise SamplerError(f"{name} is {value!r}; give a finite number{bound}")
    return float(value)


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """``value``, if it is one of ``allowed``.

    Raises:
        SamplerError: it is not.
    """
    if value not in allowed:
        raise SamplerError(f"{name} is {value!r}; give one of {', '.join(map(repr, allowed))}")
    return str(value)


def listed(*names: str) -> dict[str, list[str]]:
    """Arguments as dimod wants a sampler's ``parameters``: each with the properties it depends on, none."""
    return {name: [] for name in names}


def sequence(seed: Any) -> np.random.SeedSequence:
    """What all random numbers of a call come from; new ones where ``seed`` is None.

    Raises:
        SamplerError: the seed is no whole number, or negative.
    """
    return np.random.SeedSequence(None if seed is None else whole("seed", seed, 0))


def stream(seeds: np.random.SeedSequence) -> NDArray[np.uint64]:
    """State for `coldpress.chance.draw`, shape (1,), another one at every call."""
    words = seeds.spawn(1)[0].generate_state(1, np.uint64)
    return np.maximum(words, np.uint64(1)).astype(np.uint64)


@dataclass(frozen=True)
class Clock:
    """Seconds since ``begin``, of at most ``limit``."""

    begin: float
    limit: float

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.begin

    @property
    def over(self) -> bool:
        """Whether the limit is reached."""
        return self.seconds >= self.limit

    def part(self, of: int) -> Clock:
        """A clock that stops after one of ``of`` equal parts of what is left."""
        now = self.seconds
        return Clock(self.begin, now + max(self.limit - now, 0.0) / of)


@dataclass
class Improvements:
    """When a call met a lower energy than before, as its ``info["improvements"]`` tells.

    Attributes:
        time: of the call.
        met: (seconds, energy), each lower than the one before.
    """

    time: Clock
    met: list[tuple[float, float]] = field(default_factory=list)

    @property
    def least(self) -> float:
        """The least energy so far, +inf before the first."""
        return self.met[-1][1] if self.met else math.inf

    def offer(self, energy: float) -> None:
        """Take an energy in that was met just now."""
        if energy < self.least:
            self.met.append((self.time.seconds, energy))


def clock(time_limit: Any) -> Clock:
    """A clock that starts now; ``time_limit`` in seconds, None for no limit.

    Raises:
        SamplerError: the limit is not a positive number.
    """
    if time_limit is None:
        return Clock(time.perf_counter(), math.inf)
    number = isinstance(time_limit, numbers.Real) and not isinstance(time_limit, bool)
    if not number or not time_limit > 0:
        raise SamplerError(f"time_limit is {time_limit!r}; give seconds, more than 0, or None for no limit")
    return Clock(time.perf_counter(), float(time_limit))
