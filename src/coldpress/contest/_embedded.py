"""Annealing on an annealer's graph: a variable is a chain of qubits, which may break. Simulated, never hardware."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import dimod
import numpy as np

from coldpress.contest._given import Given, best_rows, idle_seconds
from coldpress.contest._samplers import CHAINED
from coldpress.contest.attempt import Attempt, repeat
from coldpress.errors import SamplerError
from coldpress.samplers.hardware.topologies import clique, graph_of

SIZE = 16
"""Of the Pegasus graph: that of D-Wave's Advantage without its defects, 5,640 qubits."""
READS = 16
STRENGTH = 0.3
"""Of chains, as a prefactor of D-Wave's rule. Its default, 1.414, is for hardware: here 1,000 sweeps on qubo-64 ended
51 % above the best with it, 16 % with this, since a chain that is held so tightly hardly ever flips as a whole.
"""


def play(name: str, model: dimod.BinaryQuadraticModel, seed: int, limit: float) -> Attempt:
    """Anneal the embedded model, each coupling of which lies between two qubits, until the time is up.

    The embedding, one of a complete graph, is made before the clock starts. Broken chains are read by majority; the
    energies are those of the model that was given.

    Raises:
        HardwareError: the extra `dwave` is not installed.
        SamplerError: the model has too many variables.
    """
    del name
    graph, embedding = _embedding(len(model.variables))
    from dwave.embedding import embed_bqm, unembed_sampleset
    from dwave.embedding.chain_strength import uniform_torque_compensation
    from dwave.samplers import SimulatedAnnealingSampler

    chains = dict(zip(model.variables, embedding))
    strength = uniform_torque_compensation(model, chains, prefactor=STRENGTH)
    target = embed_bqm(model, chains, graph, chain_strength=strength)
    # A chain shares its variable's bias out: by the smallest share the last temperature would be far too low.
    betas = Given(target).beta_range[0], Given(model).beta_range[1]
    broken: list[float] = []
    sample = functools.partial(SimulatedAnnealingSampler().sample, target, beta_range=betas)
    reading = idle_seconds(lambda: sample(num_reads=1, num_sweeps=0, seed=0))
    attempt = Attempt(limit)

    def call(effort: float, call_seed: int) -> None:
        qubits = sample(num_reads=READS, num_sweeps=int(effort), seed=call_seed)
        attempt.pause(reading)
        found = unembed_sampleset(qubits, chains, model, chain_break_fraction=True)
        broken.extend(found.record.chain_break_fraction.tolist())
        attempt.offer(*best_rows(model, found))

    repeat(attempt, call, 10.0, 1.0, seed)
    lengths = [len(chain) for chain in embedding]
    attempt.more = {
        "chain breaks": float(np.mean(broken)),
        "qubits": float(sum(lengths)),
        "longest chain": float(max(lengths)),
    }
    return attempt


@functools.lru_cache(maxsize=2)
def _embedding(variables: int) -> tuple[Mapping[Any, Any], Sequence[Sequence[int]]]:
    """The graph's neighbours, and a chain of qubits for each of so many variables, every two of which meet."""
    if variables > CHAINED:
        raise SamplerError(f"{variables} variables, each coupled to all, do not fit a Pegasus-{SIZE} graph")
    graph = graph_of("pegasus", SIZE)
    found = clique(graph, variables)
    return graph.adj, [found[v] for v in range(variables)]
