"""One run of a contestant: a clock, the best state met, when it was met, and all reads on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

States = NDArray[np.int64]
ROUNDING = 1e-9
"""Energies that differ by less, relatively, are the same: each sampler adds up in its own order."""
KEPT_READS = 200
"""States whose distances are looked at, and energies that are written, the last of a run."""


@dataclass
class Attempt:
    """What a contestant tells as it goes on.

    Attributes:
        limit: seconds that count; what is found later does not.
        trace: (seconds, energy) at every improvement.
        evaluations: plans evaluated by each of these, and in all by the end; empty where they are not counted.
        best: the best state's options, or bits, (units,) or (variables,); None where it is not told.
        energies, states: of every read, in order.
        bound: no state has less energy, where that is proven.
        more: other figures of the run, by name.
    """

    limit: float
    begin: float = field(default_factory=time.perf_counter)
    trace: list[tuple[float, float]] = field(default_factory=list)
    evaluations: list[int] = field(default_factory=list)
    best: States | None = None
    bound: float | None = None
    energies: list[float] = field(default_factory=list)
    states: list[States] = field(default_factory=list)
    more: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self.begin

    def pause(self, seconds: float) -> None:
        """Take seconds that have passed out of the count."""
        self.begin += seconds

    @property
    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return max(self.limit - self.seconds, 0.0)

    @property
    def energy(self) -> float:
        """The least so far, +inf before the first."""
        return self.trace[-1][1] if self.trace else np.inf

    def offer(
        self,
        states: ArrayLike,
        energies: ArrayLike,
        counts: ArrayLike | None = None,
        improvements: Sequence[tuple[float, float]] = (),
    ) -> None:
        """Take reads in.

        Args:
            states: (reads, n).
            energies: (reads,).
            counts: how often each came, where not once.
            improvements: (seconds of this run, energy) that were met on the way to the best of the reads.
        """
        rows, values = np.atleast_2d(np.asarray(states)).astype(np.int64), np.atleast_1d(np.asarray(energies, float))
        now, first = self.seconds, int(values.argmin()) if len(values) else 0
        times = np.ones(len(values), int) if counts is None else np.asarray(counts, int)
        for row, value, often in zip(rows, values, times):
            self.energies += [float(value)] * int(often)
            self.states += [row] * int(often)
        del self.energies[:-KEPT_READS], self.states[:-KEPT_READS]
        if not len(values):
            return
        best = float(values[first])
        for seconds, energy in (*improvements, (now, best)):
            told = best if energy < best or math.isclose(energy, best, rel_tol=ROUNDING) else float(energy)
            if told < self.energy and seconds <= self.limit:
                # What a call met in time and then improved on too late is not told.
                self.best = rows[first] if told == best else None
                self.trace.append((float(seconds), told))


def repeat(attempt: Attempt, read: Callable[[float, int], None], first: float, least: float, seed: int) -> None:
    """Call ``read(effort, seed)``, with twice the effort each time, until the time is up.

    The last calls get as much effort as the time that is left allows, by the time the one before took; when that is
    less than ``least`` there is none. So at least half of the time goes to the longest calls.

    Args:
        attempt: holds the clock.
        read: one call of a sampler, which offers its reads.
        first: effort of the first call.
        least: smallest effort that makes sense.
        seed: of the first call; the others' follow from it.
    """
    effort = first
    for call in range(100_000):
        began = attempt.seconds
        read(effort, int(np.random.SeedSequence([seed, call]).generate_state(1)[0] >> np.uint32(1)))
        took = max(attempt.seconds - began, 1e-6)
        effort = min(2.0 * effort, effort * attempt.left / took)
        if attempt.left == 0.0 or effort < least:
            return


def spread(states: list[States]) -> dict[str, Any]:
    """How alike reads are: how many, how many distinct, mean share of entries in which two of them differ."""
    if not states:
        return {"reads": 0, "distinct": 0, "distance": None}
    rows = np.array(states)
    distinct = len({row.tobytes() for row in rows})
    apart = [float((rows[i + 1 :] != rows[i]).mean(axis=1).sum()) for i in range(len(rows) - 1)]
    pairs = len(rows) * (len(rows) - 1) / 2
    return {"reads": len(rows), "distinct": distinct, "distance": sum(apart) / pairs if pairs else None}
