"""What a sampler is, told from the object that is called: only a real QPU is quantum, and a mock is never one."""

from __future__ import annotations

from typing import Any

MOCK = "simulated on a mock, not quantum"
HYBRID = "hybrid service: classical computers with a quantum annealer"
_MOCKS, _QPU, _HYBRIDS = (
    f"dwave.system.{name}" for name in ("testing", "samplers.dwave_sampler", "samplers.leap_hybrid_sampler")
)
_EXACT = ("ExactSolver", "ExhaustiveSampler", "TreeDecompositionSolver")
_CLASSICAL = {
    "SimulatedAnnealingSampler": "simulated annealing, classical",
    "PathIntegralAnnealingSampler": "path-integral annealing, simulates a quantum annealer on a CPU",
    "TabuSampler": "tabu search, classical",
    "SteepestDescentSolver": "steepest descent, classical",
    "TreeDecompositionSolver": "tree decomposition, classical and exact",
}


def describe(sampler: Any) -> str:
    """What a sampler is, in words that say whether it is quantum; "of unknown kind" for one that is not known."""
    kind = type(sampler)
    if _is_mock(sampler):
        return MOCK
    if _is_of(sampler, _HYBRIDS):
        return HYBRID
    if _is_of(sampler, _QPU):
        return f"quantum annealer {sampler.properties.get('chip_id', 'without a name')}"
    method = (getattr(sampler, "properties", None) or {}).get("method")
    own = str(method) if _is_of(sampler, "coldpress.samplers") and method else ""
    inner = _children(sampler)
    if inner:
        return ", ".join([own or kind.__name__, *(describe(child) for child in inner)])
    if _is_of(sampler, "dwave.samplers"):
        return _CLASSICAL.get(kind.__name__, f"{kind.__name__}, classical")
    if _is_of(sampler, "dimod.reference"):
        return f"{kind.__name__}, classical"
    return own or f"{kind.__module__}.{kind.__name__}, of unknown kind"


def is_exact(sampler: Any) -> bool:
    """Whether no state of a model lies below a sampler's best one."""
    known = any(_is_of(sampler, home) for home in ("coldpress.samplers", "dwave.samplers", "dimod.reference"))
    return known and type(sampler).__name__ in _EXACT


def is_far(sampler: Any) -> bool:
    """Whether a call goes, or with a mock pretends to go, to a machine that is paid for."""
    here = _is_mock(sampler) or _is_of(sampler, _HYBRIDS) or _is_of(sampler, _QPU)
    return here or any(is_far(child) for child in _children(sampler))


def is_mock(sampler: Any) -> bool:
    """Whether a mock answers, directly or at the end of composed samplers."""
    return _is_mock(sampler) or any(is_mock(child) for child in _children(sampler))


def _is_mock(sampler: Any) -> bool:
    # derived classes too: what stands on a mock is one
    return any(kind.__module__.startswith(_MOCKS) for kind in type(sampler).__mro__)


def _is_of(sampler: Any, module: str) -> bool:
    """Whether the sampler's very class is of ``module``; what a class derived from it does is not known."""
    name = type(sampler).__module__
    return name == module or name.startswith(f"{module}.")


def _children(sampler: Any) -> list[Any]:
    return list(getattr(sampler, "children", None) or [])
