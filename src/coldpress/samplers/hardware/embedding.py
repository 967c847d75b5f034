"""Minor embedding: every variable a chain of qubits, so that each coupling finds a coupler (Choi 2008)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import dimod
import numpy as np

from coldpress.errors import HardwareError
from coldpress.samplers._arguments import one_of
from coldpress.samplers.hardware.topologies import clique, largest_clique
from coldpress.samplers.hardware.vendor import need

CHAIN_BREAK_METHODS = ("majority_vote", "minimize_energy", "discard")
_SPARSE = 0.1  # of all couplings; denser models are cliques to an embedder, and a clique is embedded at once


@dataclass(frozen=True)
class Embedding:
    """Which qubits stand for which variable.

    Attributes:
        chains: variable to its qubits.
        method: how it was found: "clique", "heuristic", or "none" for a model without variables.
    """

    chains: Mapping[Hashable, tuple[int, ...]]
    method: str

    @property
    def qubits(self) -> int:
        """Qubits used."""
        return sum(self._lengths)

    @property
    def longest_chain(self) -> int:
        """Qubits of the longest chain."""
        return max(self._lengths, default=0)

    @property
    def mean_chain(self) -> float:
        """Mean qubits of a chain."""
        return self.qubits / max(len(self.chains), 1)

    @property
    def _lengths(self) -> list[int]:
        return [len(chain) for chain in self.chains.values()]

    def facts(self) -> dict[str, Any]:
        """Qubits and chains as JSON-ready data."""
        return {
            "qubits": self.qubits,
            "longest_chain": self.longest_chain,
            "mean_chain": self.mean_chain,
            "embedding": self.method,
        }

    def read_back(
        self, reads: dimod.SampleSet, model: dimod.BinaryQuadraticModel, chain_break_method: str = "majority_vote"
    ) -> tuple[dimod.SampleSet, dict[str, Any]]:
        """Samples of the model's variables out of reads of qubits, and what became of broken chains.

        Args:
            reads: of all qubits of the chains.
            model: energies are computed by it.
            chain_break_method: "majority_vote" of a chain's qubits; "minimize_energy": the values, one chain after
                the other, of least energy; "discard" reads with a broken chain.

        Returns:
            The samples, with a field ``chain_break_fraction`` (broken chains of all, in each read); and facts: its mean
            over reads as they came, reads with a broken chain, and the method.
        """
        rule = one_of("chain_break_method", chain_break_method, CHAIN_BREAK_METHODS)
        embedding = need("dwave.embedding")
        spins = reads.change_vartype(dimod.SPIN, inplace=False)
        signed = model.change_vartype(dimod.SPIN, inplace=False)
        chains = {v: self.chains[v] for v in model.variables}
        fractions = embedding.broken_chains(spins, list(chains.values())).mean(axis=1)
        weights = spins.record.num_occurrences
        breaks = embedding.MinimizeEnergy(signed, chains) if rule == "minimize_energy" else getattr(embedding, rule)
        found = embedding.unembed_sampleset(spins, chains, signed, chain_break_method=breaks, chain_break_fraction=True)
        facts = {
            "chain_break_fraction": float(np.average(fractions, weights=weights)),
            "reads_with_broken_chains": int(weights[fractions > 0].sum()),
            "chain_break_method": rule,
        }
        return found.change_vartype(model.vartype, inplace=False), facts


def embed(bqm: dimod.BinaryQuadraticModel, graph: Any, *, seed: int = 0, time_limit: float = 10.0) -> Embedding:
    """Embed a model into a QPU's graph: as a clique, or, where it is sparse or too large for one, by minorminer.

    Args:
        bqm: its couplings are what counts.
        graph: a Pegasus or Zephyr graph of `dwave.graphs`, with defects or without.
        seed: of the heuristic search.
        time_limit: seconds for the heuristic search.

    Raises:
        HardwareError: no embedding was found, or the extra `dwave` is not installed.
    """
    variables = list(bqm.variables)
    n, couplings = len(variables), bqm.num_interactions
    if n == 0:
        return Embedding({}, "none")
    number = {v: i for i, v in enumerate(variables)}
    found: list[tuple[dict[int, Any], str]] = []
    if n <= len(graph) and couplings <= graph.number_of_edges():
        whole = clique(graph, n, seed)
        if whole:
            found.append((whole, "clique"))
        if not whole or couplings <= _SPARSE * n * (n - 1) / 2 or n < 10:
            # A loop at every variable makes the search place those without couplings too.
            edges = [(i, i) for i in range(n)] + [(number[u], number[v]) for u, v in bqm.quadratic]
            chains = need("minorminer").find_embedding(
                edges, list(graph.edges), random_seed=seed % 2**31, timeout=max(int(np.ceil(time_limit)), 1)
            )
            if chains:
                found.append((chains, "heuristic"))
    if not found:
        most = largest_clique(graph)
        raise HardwareError(
            f"{n:,} variables with {couplings:,} couplings do not fit a {graph.graph['family']} graph of "
            f"{len(graph):,} qubits, which takes cliques of up to {most} variables: solve it in blocks "
            f"(max_variables={most}) or by a hybrid solver, or make it smaller; `coldpress embed` tells more"
        )
    chains, method = min(found, key=lambda one: sum(map(len, one[0].values())))
    return Embedding({v: tuple(sorted(chains[i])) for v, i in number.items()}, method)
