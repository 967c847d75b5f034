"""Samplers of binary quadratic models as contestants, ours and D-Wave's classical ones, each as it is meant to be used.

Each is one call ``(given, effort, seed) -> SampleSet``; what effort means (seconds, sweeps, reads) is its own matter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dimod
import numpy as np

from coldpress.contest.attempt import Attempt, repeat
from coldpress.samplers._model import read

MOST_ROWS = 64
"""Of a call's reads the best are looked at."""


@dataclass(frozen=True, eq=False)
class Given:
    """A model, and what its annealers share."""

    model: dimod.BinaryQuadraticModel

    @functools.cached_property
    def beta_range(self) -> tuple[float, float]:
        """First and last inverse temperature: at the first the largest flip up is made half of the time, at the last
        the smallest one in a hundred. D-Wave's sampler chooses by the same rule, but takes seconds on dense models.
        """
        spins = read(self.model).as_spin()
        n, sizes = len(spins), np.abs(np.concatenate([spins.linear, spins.weights]))
        least = float(sizes[sizes > 1e-9 * sizes.max(initial=0.0)].min(initial=math.inf))
        if not math.isfinite(least):
            return 0.1, 1.0
        weights = np.abs(spins.weights)
        fields = np.abs(spins.linear) + np.bincount(spins.heads, weights, n) + np.bincount(spins.tails, weights, n)
        return math.log(2.0) / (2.0 * float(fields.max())), math.log(100.0) / (2.0 * least)


@dataclass(frozen=True)
class Way:
    """How a sampler is called.

    Attributes:
        call: ``(given, effort, seed) -> SampleSet``.
        first: effort of the first call, in the share of the limit where ``timed``, else as a number.
        timed: whether effort is seconds.
        most: variables of the largest model that it is given; more take it too long.
    """

    call: Callable[[Given, float, int], dimod.SampleSet]
    first: float
    timed: bool = False
    most: int = 1_000_000


def _tabu(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import OneFlipTabuSampler

    return OneFlipTabuSampler().sample(given.model, time_limit=effort, num_restarts=1_000_000_000, seed=seed)


def _bifurcation(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import SimulatedBifurcationSampler

    return SimulatedBifurcationSampler().sample(given.model, num_reads=16, num_steps=int(effort), seed=seed)


def _low_rank(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import LowRankAnnealingSampler

    return LowRankAnnealingSampler().sample(given.model, num_sweeps=int(effort), seed=seed)


def _dwave_sa(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from dwave.samplers import SimulatedAnnealingSampler

    return SimulatedAnnealingSampler().sample(
        given.model, num_reads=1, num_sweeps=int(effort), seed=seed, beta_range=given.beta_range
    )


def _dwave_path_integral(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from dwave.samplers import PathIntegralAnnealingSampler

    return PathIntegralAnnealingSampler().sample(
        given.model, num_reads=1, num_sweeps=int(effort), seed=seed, beta_range=given.beta_range
    )


def _dwave_tabu(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from dwave.samplers import TabuSampler

    return TabuSampler().sample(given.model, num_reads=1, timeout=max(1, int(1000 * effort)), seed=seed)


def _dwave_descent(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from dwave.samplers import SteepestDescentSolver

    return SteepestDescentSolver().sample(given.model, num_reads=int(effort), seed=seed)


WAYS: dict[str, Way] = {
    "tabu": Way(_tabu, 1 / 32, timed=True),
    "bifurcation": Way(_bifurcation, 20),
    "low-rank": Way(_low_rank, 20, most=1000),
    "dwave-sa": Way(_dwave_sa, 10),
    "dwave-path-integral": Way(_dwave_path_integral, 4, most=3000),
    "dwave-tabu": Way(_dwave_tabu, 1 / 32, timed=True),
    "dwave-descent": Way(_dwave_descent, 1),
}


def play(name: str, model: dimod.BinaryQuadraticModel, seed: int, limit: float) -> Attempt:
    """Sample until the time is up."""
    compiled(name)
    attempt = Attempt(limit)
    sample(name, Given(model), attempt, seed, lambda found: attempt.offer(*best_rows(model, found)))
    return attempt


def sample(name: str, given: Given, attempt: Attempt, seed: int, take: Callable[[dimod.SampleSet], None]) -> None:
    """Call a sampler with ever more effort, and give every sample set to ``take``."""
    way = WAYS[name]

    def call(effort: float, call_seed: int) -> None:
        take(way.call(given, effort, call_seed))

    repeat(attempt, call, way.first * (attempt.limit if way.timed else 1.0), 1e-3 if way.timed else 1.0, seed)


def best_rows(model: dimod.BinaryQuadraticModel, found: dimod.SampleSet) -> tuple[Any, Any, Any]:
    """Bits (reads, variables), energies and occurrences of a set's best rows, in the order of the model's variables."""
    order = [found.variables.index(v) for v in model.variables]
    best = np.argsort(found.record.energy, kind="stable")[:MOST_ROWS]
    rows = found.record.sample[best][:, order] > 0
    return rows, found.record.energy[best], found.record.num_occurrences[best]


@functools.cache
def compiled(name: str) -> None:
    """Sample something tiny, so that what is compiled or loaded at first use is there."""
    rng = np.random.default_rng(0)
    model = dimod.Float32BQM(np.triu(rng.normal(size=(12, 12))), "BINARY")
    WAYS[name].call(Given(model), 0.05 if WAYS[name].timed else 4, 0)
