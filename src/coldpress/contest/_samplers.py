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
from coldpress.errors import SamplerError
from coldpress.samplers import named
from coldpress.samplers._model import read

MOST_ROWS = 64
"""Of a call's reads the best are looked at."""
BLOCK = 16
"""Variables of the blocks that are enumerated: a few milliseconds each."""
CHAINED = 150
"""Variables, each coupled to all, of the largest model that is embedded into a Pegasus graph."""
LEAST = 1e-3
"""Seconds of the shortest call."""


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
        exact: whether one call gives the optimum, so that there is one alone; effort means nothing then.
        most: variables of the largest model that it is given.
        most_options: options of the largest layer-choice problem, whose penalty form has no fewer variables.
        why: no more are given.
    """

    call: Callable[[Given, float, int], dimod.SampleSet]
    first: float
    timed: bool = False
    exact: bool = False
    most: int = 1_000_000
    most_options: int = 1_000_000
    why: str = "more take it too long"


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


def _blocks(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import BlockDecomposer, ExhaustiveSampler

    return BlockDecomposer(ExhaustiveSampler(), BLOCK).sample(given.model, num_reads=1, time_limit=effort, seed=seed)


def _exhaustive(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import ExhaustiveSampler

    return ExhaustiveSampler().sample(given.model, seed=seed)


def _tree_decomposition(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from dwave.samplers import TreeDecompositionSolver

    try:
        return TreeDecompositionSolver().sample(given.model)
    except ValueError as error:
        raise SamplerError(f"tree decomposition: {str(error).splitlines()[0]}") from error


def _qaoa(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import QAOASampler

    return QAOASampler().sample(given.model, time_limit=effort, seed=seed)


def _mock_qpu(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    found: dimod.SampleSet = _mock().sample(given.model, num_reads=int(effort), seed=seed)
    return found


@functools.cache
def _mock() -> Any:
    return named.make("mock-pegasus")


WAYS: dict[str, Way] = {
    "tabu": Way(_tabu, 1 / 32, timed=True),
    "bifurcation": Way(_bifurcation, 20),
    "low-rank": Way(_low_rank, 20, most=1000),
    "dwave-sa": Way(_dwave_sa, 10),
    "dwave-path-integral": Way(_dwave_path_integral, 4, most=3000),
    "dwave-tabu": Way(_dwave_tabu, 1 / 32, timed=True),
    "dwave-descent": Way(_dwave_descent, 1),
    "blocks": Way(_blocks, 1 / 32, timed=True, most=3000),
    "exhaustive": Way(_exhaustive, 1, exact=True, most=24, most_options=24, why="it looks at all 2^n states"),
    "dwave-tree-decomposition": Way(
        _tree_decomposition,
        1,
        exact=True,
        most=24,
        most_options=24,
        why="its tables have 2^(tree width) entries, and all variables are coupled",
    ),
    "qaoa-simulated": Way(_qaoa, 1 / 32, timed=True, most=20, most_options=20, why="it keeps 2^n amplitudes"),
    "mock-qpu-simulated": Way(
        _mock_qpu, 10, most=CHAINED, most_options=CHAINED, why="no more, each coupled to all, fit a Pegasus graph"
    ),
}


def play(name: str, model: dimod.BinaryQuadraticModel, seed: int, limit: float) -> Attempt:
    """Sample until the time is up."""
    compiled(name)
    attempt = Attempt(limit)
    sample(name, Given(model), attempt, seed, lambda found: attempt.offer(*best_rows(model, found)))
    if WAYS[name].exact and attempt.trace:
        attempt.bound = attempt.energy
    return attempt


def sample(name: str, given: Given, attempt: Attempt, seed: int, take: Callable[[dimod.SampleSet], None]) -> None:
    """Call a sampler with ever more effort, one that is exact once, and give every sample set to ``take``."""
    way = WAYS[name]
    if way.exact:
        take(way.call(given, way.first, seed))
        return

    def call(effort: float, call_seed: int) -> None:
        # One that ends before its time would be given more without end.
        take(way.call(given, min(effort, max(attempt.left, LEAST)) if way.timed else effort, call_seed))

    repeat(attempt, call, way.first * (attempt.limit if way.timed else 1.0), LEAST if way.timed else 1.0, seed)


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
