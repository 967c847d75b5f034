"""Samplers by name: ours, dwave-samplers', and hardware, hybrid services and mocks through the extra `dwave`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from coldpress.errors import SamplerError
from coldpress.names import meant

LOCAL: Mapping[str, tuple[str, str]] = {
    "bifurcation": ("coldpress.samplers", "SimulatedBifurcationSampler"),
    "dwave-tabu": ("dwave.samplers", "TabuSampler"),
    "exhaustive": ("coldpress.samplers", "ExhaustiveSampler"),
    "low-rank": ("coldpress.samplers", "LowRankAnnealingSampler"),
    "path-integral": ("dwave.samplers", "PathIntegralAnnealingSampler"),
    "qaoa": ("coldpress.samplers", "QAOASampler"),
    "sa": ("dwave.samplers", "SimulatedAnnealingSampler"),
    "steepest-descent": ("dwave.samplers", "SteepestDescentSampler"),
    "tabu": ("coldpress.samplers", "OneFlipTabuSampler"),
    "tree-decomposition": ("dwave.samplers", "TreeDecompositionSolver"),
}
"""What runs here."""
FAR = ("dwave-qpu", "dwave-hybrid", "dwave-hybrid-cqm")
"""What runs at the vendor's; ``:NAME`` after it names a solver there."""
MOCKS = {"mock-pegasus": "pegasus", "mock-zephyr": "zephyr"}
"""The vendor's mocks of a QPU, ``:SIZE`` after it for another size than the QPUs' on line."""
READS = "reads"
"""``reads:FILE``: what was read before."""
NAMES = (*LOCAL, *FAR, *MOCKS)


def is_name(name: str) -> bool:
    """Whether a sampler is called so; it may still lack what it needs."""
    stem, _, rest = name.partition(":")
    return name in LOCAL or stem in FAR or stem in MOCKS or (stem == READS and bool(rest))


def check(name: str) -> None:
    """Refuse what `make` would refuse, as far as that can be told without a network.

    Raises:
        SamplerError: no sampler is called so, or its size is none.
        HardwareError: the extra `dwave` or a token is missing.
    """
    stem, _, rest = name.partition(":")
    if not is_name(name):
        raise SamplerError(f"no sampler is called {name!r}; there are {', '.join(NAMES)}{meant(name, NAMES)}")
    if stem in FAR or stem in MOCKS:
        from coldpress.samplers.hardware.vendor import check_token, need

        need("dwave.system")
        if stem in FAR:
            check_token()
    if stem in MOCKS and rest and not rest.isdecimal():
        raise SamplerError(f"{name!r}: {rest!r} is no size; give {stem}:4, say")


def make(name: str, folder: Path | None = None) -> Any:
    """The sampler called ``name``.

    Args:
        name: one of `NAMES`, ``dwave-qpu:Advantage_system6.4``, ``mock-pegasus:4``, or ``reads:FILE``.
        folder: where hardware, hybrid services and mocks keep their reads; None keeps none.

    Raises:
        SamplerError: no sampler is called so, or the file holds no reads.
        HardwareError: the extra, a token, the network or the solver is missing.
    """
    check(name)
    if name in LOCAL:
        module, kind = LOCAL[name]
        return getattr(import_module(module), kind)()
    from coldpress.samplers import hardware
    from coldpress.samplers.hardware import vendor

    stem, _, rest = name.partition(":")
    if stem == READS:
        return hardware.open_reads(rest)
    if stem == "dwave-qpu":
        return hardware.EmbeddedSampler(vendor.connect_qpu(rest or None), folder)
    if stem == "dwave-hybrid":
        return hardware.HybridSampler(vendor.connect_hybrid("LeapHybridSampler", rest or None), folder)
    if stem == "dwave-hybrid-cqm":
        return hardware.HybridCQMSampler(vendor.connect_hybrid("LeapHybridCQMSampler", rest or None), folder)
    return hardware.EmbeddedSampler(mock(MOCKS[stem], int(rest) if rest else None), folder)


def mock(topology: str, size: int | None = None) -> Any:
    """The vendor's `MockDWaveSampler` on a graph without defects, answered by simulated annealing on the CPU.

    Args:
        topology: "pegasus" or "zephyr".
        size: by default that of the QPUs on line.

    Raises:
        HardwareError: the extra `dwave` is not installed.
    """
    from dwave.samplers import SimulatedAnnealingSampler

    from coldpress.samplers.hardware.topologies import graph_of
    from coldpress.samplers.hardware.vendor import need

    rows = int(graph_of(topology, size).graph["rows"])
    return need("dwave.system.testing").MockDWaveSampler(
        topology_type=topology,
        topology_shape=[rows] if topology == "pegasus" else [rows, 4],
        substitute_sampler=SimulatedAnnealingSampler(),
        parameter_warnings=False,
    )
