"""A QPU, or the vendor's mock of one, for any binary quadratic model: embedded, sampled, kept, read back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import dimod

from coldpress.errors import SamplerError
from coldpress.samplers._arguments import clock, one_of, real, sequence, whole
from coldpress.samplers._model import empty_set, read
from coldpress.samplers.hardware.embedding import CHAIN_BREAK_METHODS, Embedding, embed
from coldpress.samplers.hardware.estimate import qpu_seconds
from coldpress.samplers.hardware.reads import keep
from coldpress.samplers.hardware.vendor import need, told, wait
from coldpress.samplers.kinds import MOCK, describe, is_mock

logger = logging.getLogger("coldpress.samplers.hardware")

METHOD = "embedded"
_PATIENCE = 600.0  # seconds, where no time limit is given
_EMBEDDING = 30.0  # seconds at most for the search of an embedding


class EmbeddedSampler(dimod.ComposedSampler):
    """Samples models of any shape on a sampler that knows qubits and couplers alone.

    The model is embedded (`embed`), sampled, and the reads are written to ``folder`` as they came, before chains are
    read back and energies computed. What an embedding does to a run stands in ``info``: qubits, chains, the fraction of
    chains that were broken and how they were resolved.

    Args:
        child: a `DWaveSampler`, or a `MockDWaveSampler` of the vendor.
        folder: for the reads; None keeps none.

    Raises:
        SamplerError: the child is no sampler of qubits.
    """

    def __init__(self, child: Any, folder: Path | None = None) -> None:
        if not isinstance(child, dimod.Structured):
            raise SamplerError(f"a {type(child).__name__} has no qubits to embed into: sample with it directly")
        self._child, self._folder = child, folder
        self._graph = child.to_networkx_graph()

    @property
    def children(self) -> list[Any]:
        """The sampler of qubits."""
        return [self._child]

    @property
    def parameters(self) -> dict[str, list[str]]:
        """Arguments of `sample`."""
        own = ("num_reads", "seed", "time_limit", "chain_strength", "chain_break_method", "annealing_time")
        return {name: [] for name in own}

    @property
    def properties(self) -> dict[str, Any]:
        """What this is, and the graph."""
        family, rows = self._graph.graph.get("family"), self._graph.graph.get("rows")
        return {"method": METHOD, "topology": family, "size": rows, "qubits": len(self._graph)}

    def sample(
        self,
        bqm: Any,
        *,
        num_reads: int = 100,
        seed: int | None = None,
        time_limit: float | None = None,
        chain_strength: float | None = None,
        chain_break_method: str = "majority_vote",
        annealing_time: float | None = None,
        **kwargs: Any,
    ) -> dimod.SampleSet:
        """``num_reads`` samples, each with its fraction of broken chains.

        Args:
            bqm: any `dimod.BinaryQuadraticModel` that fits.
            num_reads: anneals, 1 or more; the QPU has a most.
            seed: of the embedding, and of a mock; no seed makes a QPU do the same again.
            time_limit: seconds of wall time, waiting in the queue and all; by default 600.
            chain_strength: coupling within chains, in the model's units; by default the vendor's rule (uniform torque
                compensation).
            chain_break_method: "majority_vote", "minimize_energy" or "discard"; see `Embedding.read_back`.
            annealing_time: microseconds of an anneal; by default the QPU's own.
            **kwargs: of other samplers; ignored with a warning.

        Returns:
            The samples, with ``info``: method, kind, seconds, qubits, longest_chain, mean_chain, embedding,
            chain_strength, chain_break_fraction, reads_with_broken_chains, chain_break_method; of a QPU also
            problem_id, estimated_qpu_ms and qpu_access_ms; reads_file where reads are kept.

        Raises:
            SamplerError: a bias is not finite, or an argument is out of its range.
            HardwareError: it does not fit, the time is up, or the vendor refuses or fails.
        """
        self.remove_unknown_kwargs(**kwargs)
        time, reads = clock(time_limit), whole("num_reads", num_reads, 1)
        start = int(sequence(seed).generate_state(1)[0] >> 1)
        rule = one_of("chain_break_method", chain_break_method, CHAIN_BREAK_METHODS)
        strength = None if chain_strength is None else real("chain_strength", chain_strength, 0.0)
        annealing = {} if annealing_time is None else {"annealing_time": real("annealing_time", annealing_time, 0.0)}
        if len(read(bqm)) == 0:
            return empty_set(bqm, method=METHOD, kind=describe(self._child), seconds=time.seconds)
        left = min(time.limit, _PATIENCE)
        embedding = embed(bqm, self._graph, seed=start, time_limit=min(left / 2, _EMBEDDING))
        facts = self._estimated(embedding, reads, annealing_time)
        physical, strength = self._embedded(bqm, embedding, strength)
        if is_mock(self._child):
            self._child.substitute_kwargs = {"seed": start}
        source = describe(self._child)
        with told(source):
            submitted = self._child.sample(physical, num_reads=reads, answer_mode="raw", **annealing)
        raw = wait(submitted, max(left - time.seconds, 0.0), source)
        if self._folder is not None:
            facts["reads_file"] = str(keep(self._folder, source, raw, bqm, embedding))
            logger.info("reads kept in %s", facts["reads_file"])
        facts |= self._paid(raw)
        found, broken = embedding.read_back(raw, bqm, rule)
        found.info.clear()
        found.info.update(
            method=METHOD, kind=source, seconds=time.seconds, chain_strength=strength, **embedding.facts(), **broken
        )
        found.info.update(facts)
        return found

    def _embedded(
        self, bqm: Any, embedding: Embedding, strength: float | None
    ) -> tuple[dimod.BinaryQuadraticModel, float]:
        """The model of spins over qubits, and the strength of its chains."""
        vendor = need("dwave.embedding")
        spins = bqm.change_vartype(dimod.SPIN, inplace=False)
        chains = vendor.EmbeddedStructure(self._child.edgelist, dict(embedding.chains))
        rule = vendor.chain_strength.uniform_torque_compensation
        chosen = float(rule(spins, chains)) if strength is None else strength
        return chains.embed_bqm(spins, chain_strength=chosen, smear_vartype=dimod.SPIN), chosen

    def _estimated(self, embedding: Embedding, reads: int, annealing_time: float | None) -> dict[str, Any]:
        """The QPU time that a real QPU's own figures predict, in milliseconds; said before it is spent."""
        if is_mock(self._child):
            return {}
        try:
            seconds = qpu_seconds(self._child.properties, embedding.qubits, reads, annealing_time)
        except (KeyError, ValueError):
            return {}
        logger.info("about %.1f ms of QPU time for %d reads on %d qubits", 1e3 * seconds, reads, embedding.qubits)
        return {"estimated_qpu_ms": 1e3 * seconds}

    def _paid(self, raw: dimod.SampleSet) -> dict[str, Any]:
        """The problem's id and the QPU time taken, in milliseconds. A mock makes both up, so it tells neither."""
        if describe(self._child) == MOCK:
            return {}
        access = (raw.info.get("timing") or {}).get("qpu_access_time")
        found = {"problem_id": raw.info.get("problem_id"), "qpu_access_ms": None if access is None else access / 1e3}
        return {name: value for name, value in found.items() if value is not None}
