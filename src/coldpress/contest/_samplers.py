"""Samplers of binary quadratic models as contestants, ours and D-Wave's classical ones, each as it is meant to be used.

Each is one call ``(given, effort, seed) -> SampleSet``; what effort means (seconds, sweeps, reads) is its own matter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dimod
import numpy as np

from coldpress.contest._given import Chains, Given, best_rows, idle_seconds, improvements
from coldpress.contest.attempt import Attempt, repeat
from coldpress.errors import SamplerError
from coldpress.samplers import named

BLOCK = 16
"""Variables of the blocks that are enumerated: a few milliseconds each."""
CHAINED = 150
"""Variables, each coupled to all, of the largest model that is embedded into a Pegasus graph."""
LEAST = 1e-3
"""Seconds of the shortest call."""


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
        prepare: makes what every call needs of a model.
        idle: a call that only reads, of a sampler that reads at every call; so much of each is not counted.
        stamped: whether a call tells its improvements with their times, so that one may take all of the time.
    """

    call: Callable[[Given, float, int], dimod.SampleSet]
    first: float
    timed: bool = False
    exact: bool = False
    most: int = 1_000_000
    most_options: int = 1_000_000
    why: str = "more take it too long"
    prepare: Callable[[Given], Any] = lambda given: given.once
    idle: Callable[[Given], dimod.SampleSet] | None = None
    stamped: bool = False


def _tabu(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import OneFlipTabuSampler

    return OneFlipTabuSampler().sample(given.once, time_limit=effort, num_restarts=1_000_000_000, seed=seed)


def _bifurcation(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import SimulatedBifurcationSampler

    return SimulatedBifurcationSampler().sample(given.once, num_reads=16, num_steps=int(effort), seed=seed)


def _low_rank(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import LowRankAnnealingSampler

    return LowRankAnnealingSampler().sample(given.once, num_sweeps=int(effort), seed=seed)


def _dwave_sa(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from dwave.samplers import SimulatedAnnealingSampler

    return SimulatedAnnealingSampler().sample(
        given.spins, num_reads=1, num_sweeps=int(effort), seed=seed, beta_range=given.beta_range
    )


def _dwave_path_integral(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from dwave.samplers import PathIntegralAnnealingSampler

    return PathIntegralAnnealingSampler().sample(
        given.spins, num_reads=1, num_sweeps=int(effort), seed=seed, beta_range=given.beta_range
    )


def _dwave_tabu(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    found: dimod.SampleSet = given.dwave_tabu.sample(
        given.model, num_reads=1, timeout=max(1, int(1000 * effort)), seed=seed
    )
    return found


def _dwave_descent(given: Given, effort: float, seed: int, start: Any = None) -> dimod.SampleSet:
    from dwave.samplers import SteepestDescentSolver

    return SteepestDescentSolver().sample(given.spins, num_reads=int(effort), seed=seed, initial_states=start)


def _blocks(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import BlockDecomposer, ExhaustiveSampler

    return BlockDecomposer(ExhaustiveSampler(), BLOCK).sample(given.once, num_reads=1, time_limit=effort, seed=seed)


def _exhaustive(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import ExhaustiveSampler

    return ExhaustiveSampler().sample(given.once, seed=seed)


def _tree_decomposition(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from dwave.samplers import TreeDecompositionSolver

    try:
        return TreeDecompositionSolver().sample(given.model)
    except ValueError as error:
        raise SamplerError(f"tree decomposition: {str(error).splitlines()[0]}") from error


def _qaoa(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    from coldpress.samplers import QAOASampler

    return QAOASampler().sample(given.once, time_limit=effort, seed=seed)


def _mock_qpu(given: Given, effort: float, seed: int) -> dimod.SampleSet:
    found: dimod.SampleSet = _mock().sample(given.model, num_reads=int(effort), seed=seed)
    return found


@functools.cache
def _mock() -> Any:
    return named.make("mock-pegasus")


WAYS: dict[str, Way] = {
    "tabu": Way(_tabu, 1 / 32, timed=True, prepare=lambda given: _tabu(given, LEAST, 0), stamped=True),
    "bifurcation": Way(_bifurcation, 20, prepare=lambda given: _bifurcation(given, 1, 0)),
    "low-rank": Way(_low_rank, 20, most=1000),
    "dwave-sa": Way(_dwave_sa, 10, idle=lambda given: _dwave_sa(given, 0, 0)),
    "dwave-path-integral": Way(
        _dwave_path_integral, 4, most=3000, idle=lambda given: _dwave_path_integral(given, 0, 0)
    ),
    "dwave-tabu": Way(_dwave_tabu, 1 / 32, timed=True, prepare=lambda given: given.dwave_tabu),
    "dwave-descent": Way(_dwave_descent, 1, idle=lambda given: _dwave_descent(given, 1, 0, given.minimum)),
    "blocks": Way(_blocks, 1 / 32, timed=True, most=3000, prepare=lambda given: _blocks(given, LEAST, 0), stamped=True),
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
    """Sample until the time is up; the model is read before the clock starts."""
    given, way = prepared(name, model), WAYS[name]
    attempt = Attempt(limit)

    def take(found: dimod.SampleSet, began: float) -> None:
        met = [(began + seconds, energy) for seconds, energy in improvements(found)]
        attempt.offer(*best_rows(model, found), met)

    sample(name, given, attempt, seed, take, 1.0 if way.stamped else way.first)
    if way.exact and attempt.trace:
        attempt.bound = attempt.energy
    return attempt


def prepared(name: str, model: dimod.BinaryQuadraticModel) -> Given:
    """The model, with all that a sampler's calls need of it."""
    compiled(name)
    given, way = Given(model), WAYS[name]
    way.prepare(given)
    if way.idle is not None:
        way.idle(given)  # makes the forms that it takes
        given.reading = idle_seconds(functools.partial(way.idle, given))
    return given


def sample(
    name: str,
    given: Given,
    attempt: Attempt,
    seed: int,
    take: Callable[[dimod.SampleSet, float], None],
    first: float,
) -> None:
    """Call a sampler with ever more effort, one that is exact once; what chains did stands in ``attempt.more``.

    Args:
        name: of the sampler.
        given: as it was `prepared`.
        attempt: holds the clock, which does not count ``given.reading``.
        seed: of the first call.
        take: is given every sample set, and when its call began.
        first: effort of the first call, as `Way.first`.
    """
    way = WAYS[name]
    if way.exact:
        take(way.call(given, way.first, seed), 0.0)
        return

    chains = Chains()

    def call(effort: float, call_seed: int) -> None:
        began = attempt.seconds
        # One that ends before its time would be given more without end.
        found = way.call(given, min(effort, max(attempt.left, LEAST)) if way.timed else effort, call_seed)
        attempt.pause(min(given.reading, attempt.seconds - began))
        chains.take(found.info)
        take(found, began)

    repeat(attempt, call, first * (attempt.limit if way.timed else 1.0), LEAST if way.timed else 1.0, seed)
    attempt.more |= chains.means()


@functools.cache
def compiled(name: str) -> None:
    """Sample something tiny, so that what is compiled or loaded at first use is there."""
    rng = np.random.default_rng(0)
    model = dimod.Float32BQM(np.triu(rng.normal(size=(12, 12))), "BINARY")
    WAYS[name].call(Given(model), 0.05 if WAYS[name].timed else 4, 0)
