"""What a model would take on a QPU, told before anything is spent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import dimod

from coldpress.errors import HardwareError
from coldpress.samplers._arguments import real, whole
from coldpress.samplers._model import read
from coldpress.samplers.hardware.embedding import Embedding, embed
from coldpress.samplers.hardware.topologies import graph_of, largest_clique
from coldpress.samplers.hardware.vendor import need

TIMING_SOURCE = "Advantage_system4.1 as of August 2022, figures and formula of the vendor's dwave-cloud-client"


@dataclass(frozen=True)
class Estimate:
    """What a model would take on a graph.

    Attributes:
        topology, size: the graph's.
        graph_qubits, graph_couplers: of the graph.
        variables, couplings: of the model.
        largest_clique: variables that, all coupled, the clique search embeds in this graph: a block that surely fits.
        embedding: qubits and chains; None where the model does not fit.
        num_reads: reads that the times are for.
        read_seconds: a read: anneal, readout and delay; None where the vendor publishes no figures.
        qpu_seconds: programming and all reads, what is charged; None as before.
        timing_source: whose figures these are.
    """

    topology: str
    size: int
    graph_qubits: int
    graph_couplers: int
    variables: int
    couplings: int
    largest_clique: int
    embedding: Embedding | None
    num_reads: int
    read_seconds: float | None
    qpu_seconds: float | None
    timing_source: str | None

    @property
    def fits(self) -> bool:
        """Whether an embedding was found."""
        return self.embedding is not None

    def facts(self) -> dict[str, Any]:
        """All of it as JSON-ready data, without the chains themselves."""
        data = asdict(self) | {"fits": self.fits}
        data.pop("embedding")
        return data | (self.embedding.facts() if self.embedding is not None else {})


def estimate_embedding(
    bqm: dimod.BinaryQuadraticModel,
    topology: str = "pegasus",
    *,
    size: int | None = None,
    num_reads: int = 100,
    seed: int = 0,
    time_limit: float = 10.0,
) -> Estimate:
    """Embed a model into a graph without defects, and say what it takes; nothing is sent anywhere.

    Args:
        bqm: what would be sampled.
        topology: "pegasus" (Advantage) or "zephyr" (Advantage2).
        size: of the graph; by default that of the QPUs on line.
        num_reads: reads that the QPU time is estimated for.
        seed: of the search for an embedding.
        time_limit: seconds for that search.

    Raises:
        SamplerError: a bias is not finite, or an argument is out of its range.
        HardwareError: the extra `dwave` is not installed.

    Example:
        >>> import dimod
        >>> model = dimod.BinaryQuadraticModel({}, {(i, j): 1.0 for i in range(12) for j in range(i)}, 0.0, "SPIN")
        >>> found = estimate_embedding(model, "pegasus", size=4)
        >>> found.fits, found.largest_clique, found.embedding.longest_chain
        (True, 36, 3)
    """
    model, reads = read(bqm), whole("num_reads", num_reads, 1)
    graph = graph_of(topology, size)
    try:
        embedding = embed(bqm, graph, seed=whole("seed", seed, 0), time_limit=real("time_limit", time_limit, 0.0))
    except HardwareError:
        embedding = None
    one = many = None
    if embedding is not None and topology == "pegasus":
        figures = need("dwave.cloud.testing.mocks").qpu_problem_timing_data("advantage")
        times = [qpu_seconds({"problem_timing_data": figures}, embedding.qubits, count) for count in (1, 2, reads)]
        one, many = times[1] - times[0], times[2]
    return Estimate(
        topology,
        int(graph.graph["rows"]),
        len(graph),
        graph.number_of_edges(),
        len(model),
        len(model.weights),
        largest_clique(graph),
        embedding,
        reads,
        one,
        many,
        TIMING_SOURCE if many is not None else None,
    )


def qpu_seconds(properties: dict[str, Any], qubits: int, num_reads: int, annealing_time: float | None = None) -> float:
    """QPU access time in seconds by the vendor's formula on a solver's properties; ``annealing_time`` in microseconds.

    Raises:
        KeyError, ValueError: the properties lack what the formula needs.
    """
    solver = need("dwave.cloud.solver").StructuredSolver
    # The formula is a method of a connected solver that looks at nothing but its properties.
    microseconds = solver.estimate_qpu_access_time(
        SimpleNamespace(properties=properties), max(qubits, 1), num_reads, annealing_time=annealing_time
    )
    return float(microseconds) * 1e-6
