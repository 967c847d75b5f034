"""A model as the samplers of a contest take it, read before the clock starts, and what their sample sets tell."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import dimod
import numpy as np

from coldpress.samplers._model import ReadOnce

MOST_ROWS = 64
"""Of a call's reads the best are looked at."""


@dataclass(eq=False)
class Given:
    """A model, and the forms of it that samplers work in, each made once and before the clock starts.

    Attributes:
        model: as it is.
        reading: seconds that a sampler of D-Wave's takes at every call to lay the model out, which nothing spares it.
    """

    model: dimod.BinaryQuadraticModel
    reading: float = 0.0

    @functools.cached_property
    def once(self) -> ReadOnce:
        """As our samplers take it."""
        return ReadOnce(self.model)

    @functools.cached_property
    def spins(self) -> dimod.BinaryQuadraticModel:
        """As D-Wave's annealers take it: from another they would make it at every call."""
        return self.model.change_vartype("SPIN", inplace=False)

    @functools.cached_property
    def minimum(self) -> dimod.SampleSet:
        """A local minimum, from which steepest descent has nowhere to go."""
        from dwave.samplers import SteepestDescentSolver

        return SteepestDescentSolver().sample(self.spins, seed=0)

    @functools.cached_property
    def dwave_tabu(self) -> Any:
        """D-Wave's tabu search with its matrix made once: it would make it at every call, and tell no time for it."""
        from dwave.samplers import TabuSampler

        sampler = TabuSampler()
        matrix = sampler._bqm_to_tabu_qubo(self.model.change_vartype("BINARY", inplace=False))
        sampler._bqm_to_tabu_qubo = lambda model: matrix
        return sampler

    @functools.cached_property
    def beta_range(self) -> tuple[float, float]:
        """First and last inverse temperature: at the first the largest flip up is made half of the time, at the last
        the smallest one in a hundred. D-Wave's sampler chooses by the same rule, but takes seconds on dense models.
        """
        spins = self.once.arrays.as_spin()
        n, sizes = len(spins), np.abs(np.concatenate([spins.linear, spins.weights]))
        least = float(sizes[sizes > 1e-9 * sizes.max(initial=0.0)].min(initial=math.inf))
        if not math.isfinite(least):
            return 0.1, 1.0
        weights = np.abs(spins.weights)
        fields = np.abs(spins.linear) + np.bincount(spins.heads, weights, n) + np.bincount(spins.tails, weights, n)
        return math.log(2.0) / (2.0 * float(fields.max())), math.log(100.0) / (2.0 * least)


def idle_seconds(call: Callable[[], object]) -> float:
    """Of a call that does nothing but read its model; the shorter of two."""
    taken = []
    for _ in range(2):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return min(taken)


class Chains:
    """What embeddings did to the calls of a run: figures by the name that the page gives them."""

    TOLD: ClassVar[Mapping[str, str]] = {
        "chain breaks": "chain_break_fraction",
        "qubits": "qubits",
        "longest chain": "longest_chain",
    }

    def __init__(self) -> None:
        self._told: dict[str, list[float]] = {}

    def take(self, info: Mapping[str, Any]) -> None:
        """Take in what a sample set's info says of chains, which of most samplers is nothing."""
        for name, key in self.TOLD.items():
            if key in info:
                self._told.setdefault(name, []).append(float(info[key]))

    def means(self) -> dict[str, float]:
        """Over the calls."""
        return {name: float(np.mean(values)) for name, values in self._told.items()}


def improvements(found: dimod.SampleSet) -> Sequence[tuple[float, float]]:
    """(seconds, energy) that a call met, as one of our samplers tells them; none where nothing is told."""
    told: list[tuple[float, float]] = found.info.get("improvements", [])
    for times, energies in zip(found.info.get("times", []), found.info.get("traces", [])):  # of blocks
        told = [*told, *zip(times, energies)]
    return told


def best_rows(model: dimod.BinaryQuadraticModel, found: dimod.SampleSet) -> tuple[Any, Any, Any]:
    """Bits (reads, variables), energies and occurrences of a set's best rows, in the order of the model's variables."""
    order = [found.variables.index(v) for v in model.variables]
    best = np.argsort(found.record.energy, kind="stable")[:MOST_ROWS]
    rows = found.record.sample[best][:, order] > 0
    return rows, found.record.energy[best], found.record.num_occurrences[best]
