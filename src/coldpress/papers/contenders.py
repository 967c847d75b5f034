"""Solvers and samplers of the published QUBO, each made to use the time that it is given, and no more than that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import dimod
import numpy as np

from coldpress.contest.attempt import Attempt, repeat
from coldpress.errors import SamplerError
from coldpress.samplers import BlockDecomposer, named
from coldpress.samplers.asking import ask
from coldpress.samplers.kinds import describe
from coldpress.solvers import SOLVERS, WITHOUT_END, check_solver, sampler_called
from coldpress.solvers.as_sampler import SolverSampler

SECONDS = 10.0
MOST_READS = 64
"""Of all reads so many are given back, the best."""
BLOCKS: Mapping[str, tuple[int, Mapping[str, Any]]] = {
    "qaoa": (10, {"max_iterations": 10}),
    "mock-pegasus": (32, {"num_reads": 10}),
    "mock-zephyr": (32, {"num_reads": 10}),
}
"""Variables of a block, and what its sampler is told, of samplers that take few: a state vector of ten is quick, and
chains of 32 variables break less than those of the largest cliques that would fit."""
_TITLES = {
    "exact": "branch and bound, with a bound",
    "milp": "mixed-integer programming by HiGHS, with a bound",
    "genetic": "genetic algorithm",
    "reinforce": "reinforcement learning, policy gradient",
}


class Repeated(dimod.ComposedSampler):
    """A sampler called again and again, with a new seed and more reads each time, until its time is up.

    Args:
        sampler: any `dimod.Sampler` of this machine.
        name: what to call it.
        parameters: further arguments of its own.
    """

    parameters: ClassVar[dict[str, list[str]]] = {"seed": [], "time_limit": []}

    def __init__(self, sampler: Any, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        self._sampler, self._name, self._parameters = sampler, name, dict(parameters or {})

    @property
    def children(self) -> list[Any]:
        """The sampler that is called."""
        return [self._sampler]

    @property
    def properties(self) -> dict[str, Any]:
        """What this is."""
        return {"method": "repeated", "child_properties": dict(self._sampler.properties)}

    def sample(
        self, bqm: Any, *, seed: int | None = None, time_limit: float | None = None, **kwargs: Any
    ) -> dimod.SampleSet:
        """The best reads of all calls.

        Args:
            bqm: any `dimod.BinaryQuadraticModel`.
            seed: of the first call, from which the others' follow; 0 by default.
            time_limit: seconds, 10 by default; a sampler that cannot be told of time ends its call first.
            **kwargs: of other samplers; ignored with a warning.

        Returns:
            The reads, with ``info``: read_energies of all reads, and of embedded models chain_break_fraction, its mean
            over calls and blocks.

        Raises:
            SamplerError: the sampler fails, or its answer is not of the model.
        """
        self.remove_unknown_kwargs(**kwargs)
        attempt, found = Attempt(SECONDS if time_limit is None else time_limit), list[dimod.SampleSet]()
        energies, breaks = list[float](), list[float]()

        def call(reads: float, own_seed: int) -> None:
            given = dict(self._parameters)
            if isinstance(self._sampler, BlockDecomposer):  # the first read begins with the network as it is
                given["initial_states"] = dict.fromkeys(bqm.variables, min(bqm.vartype.value))
            left = max(attempt.left, 1e-3)
            samples = ask(
                self._sampler, bqm, name=self._name, num_reads=int(reads), seed=own_seed, time_limit=left,
                parameters=given,
            )  # fmt: skip
            found.append(_best(samples))
            energies.extend(np.repeat(samples.record.energy, samples.record.num_occurrences).tolist())
            calls = (samples.info, *samples.info.get("children", []))
            breaks.extend(one["chain_break_fraction"] for one in calls if "chain_break_fraction" in one)

        repeat(attempt, call, first=1.0, least=1.0, seed=seed or 0)
        best = _best(dimod.concatenate(found))
        best.info["read_energies"] = energies
        if breaks:
            best.info["chain_break_fraction"] = float(np.mean(breaks))
        return best


def check(name: str) -> None:
    """Refuse what `contender` would refuse.

    Raises:
        ColdpressError: no solver or sampler is called so.
        HardwareError: the extra that it needs is missing.
        SamplerError: it is paid for by the call, or only reads what was read before.
    """
    if name.partition(":")[0] in (*named.FAR, named.READS):
        raise SamplerError(
            f"{name} would be called many times over, which is paid for each time or cannot be: give it to "
            "coldpress.solvers.reduction.penalise, which makes one call"
        )
    check_solver(name)


def contender(name: str) -> dimod.Sampler:
    """A sampler that takes ``seed`` and ``time_limit`` alone, and uses its time.

    Args:
        name: of a solver or a sampler of this machine, see `coldpress.solvers`.

    Raises: as `check`.
    """
    check(name)
    if name in SOLVERS:
        return SolverSampler(name, **WITHOUT_END.get(name, {}))
    stem = name.partition(":")[0]
    sampler = sampler_called(name)
    if stem not in BLOCKS:
        return Repeated(sampler, name)
    size, given = BLOCKS[stem]
    return Repeated(BlockDecomposer(sampler, size), name, {"child_parameters": dict(given)})


def title(name: str, sampler: dimod.Sampler) -> str:
    """What a contender is, in words that say that a mock is none of quantum hardware."""
    if isinstance(sampler, Repeated):
        return describe(sampler.children[0])
    return _TITLES.get(name, f"solver {name}")


def warm_up(sampler: dimod.Sampler) -> None:
    """Sample something tiny, so that what is compiled or loaded at first use is there."""
    weights = np.random.default_rng(0).normal(size=(6, 6))
    sampler.sample(dimod.BinaryQuadraticModel(np.triu(weights), "BINARY"), seed=0, time_limit=0.05)


def _best(samples: dimod.SampleSet) -> dimod.SampleSet:
    return samples.truncate(MOST_READS)
