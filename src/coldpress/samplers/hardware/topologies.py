"""The graphs of D-Wave's QPUs, without the defects that real ones have, and the largest cliques they take."""

from __future__ import annotations

from functools import cache
from typing import Any

from coldpress.errors import HardwareError
from coldpress.samplers._arguments import one_of, whole
from coldpress.samplers.hardware.vendor import need

SIZES = {"pegasus": 16, "zephyr": 12}
"""Of the QPUs on line: Advantage is a P16 with 5,640 qubits, Advantage2 a Z12 with 4,800; real ones lack some."""
_LEAST, _MOST = 2, 32  # on a Z1 the clique search does not end, see `clique`


def graph_of(topology: str, size: int | None = None) -> Any:
    """The networkx graph of a topology, by default in the size of the QPUs on line.

    Args:
        topology: "pegasus" or "zephyr".
        size: m of P_m or Z_m, from 2 to 32.

    Raises:
        SamplerError: another topology, or a size that is out of range.
        HardwareError: the extra `dwave` is not installed.
    """
    kind = one_of("topology", topology, tuple(SIZES))
    m = SIZES[kind] if size is None else whole("size", size, _LEAST)
    if m > _MOST:
        raise HardwareError(f"{kind} of size {m} is beyond what is built; give {_MOST} or less")
    return _graph(kind, m)


@cache
def _graph(kind: str, m: int) -> Any:
    graphs = need("dwave.graphs")
    return {"pegasus": graphs.pegasus_graph, "zephyr": graphs.zephyr_graph}[kind](m)


def clique_bound(topology: str, size: int) -> int:
    """How many variables, all coupled, the clique embeddings that are published take in a graph without defects.

    Pegasus P_m: 12 (m - 1), chains of m + 1 qubits (Boothby, Bunyk, Raymond and Roy, arXiv 2003.00133). Zephyr Z_m of
    tile 4: 16 m - 8, chains of m + 1 (Boothby, King and Raymond, D-Wave report 14-1056A). P_2 takes fewer.
    """
    return 12 * (size - 1) if topology == "pegasus" else 16 * size - 8


def clique(graph: Any, variables: int, seed: int = 0) -> dict[int, tuple[int, ...]]:
    """Chains for so many variables, all coupled, by the vendor's clique search; empty where it finds none."""
    # On Zephyr graphs minorminer 0.2.22 does not come back from 5 to 8, and eats all memory; any part of 9 will do.
    asked = 9 if graph.graph["family"] == "zephyr" and 5 <= variables <= 8 else variables
    found = need("minorminer.busclique").find_clique_embedding(asked, graph, use_cache=False, seed=seed)
    return {i: tuple(found[i]) for i in range(variables)} if found else {}


def largest_clique(graph: Any) -> int:
    """How many variables, all coupled, the vendor's search embeds in this graph, defects and all."""
    shape = graph.graph
    fits, fails = 1, clique_bound(shape["family"], int(shape["rows"])) + 1
    tried = fails - 1  # graphs without defects take it, so one search is enough there
    while fits < fails - 1:
        if clique(graph, tried):
            fits = tried
        else:
            fails = tried
        tried = (fits + fails) // 2
    return fits
