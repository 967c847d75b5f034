"""Makes trained PyTorch models smaller and faster on CPUs: width, rank, depth and bits decided together."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coldpress import errors, zoo
    from coldpress.artifact import load
    from coldpress.budget import Budget
    from coldpress.few_bits.artifact import RoundedResult, round_to_artifact
    from coldpress.few_bits.factors import factor_network
    from coldpress.few_bits.network import RoundedNetwork, round_network
    from coldpress.packed import PackedSize, pack_weights
    from coldpress.pipeline import Preview, Result, compress, predict
    from coldpress.plan import Plan, Space
    from coldpress.problem import Cost, Energy, Factor, Problem
    from coldpress.recipe import Recipe
    from coldpress.selection import Selection
    from coldpress.solvers import Answer, solve
    from coldpress.solvers.select import Selected, select
    from coldpress.space import find_space
    from coldpress.surgery.round_groups import Form
    from coldpress.surgery.round_weights import Rounded, round_weights
    from coldpress.task import Task

try:
    __version__ = version("coldpress")
except PackageNotFoundError:  # used from a source tree that is not installed
    __version__ = "0"

__all__ = [
    "Answer",
    "Budget",
    "Cost",
    "Energy",
    "Factor",
    "Form",
    "PackedSize",
    "Plan",
    "Preview",
    "Problem",
    "Recipe",
    "Result",
    "Rounded",
    "RoundedNetwork",
    "RoundedResult",
    "Selected",
    "Selection",
    "Space",
    "Task",
    "compress",
    "errors",
    "factor_network",
    "find_space",
    "load",
    "pack_weights",
    "predict",
    "round_network",
    "round_to_artifact",
    "round_weights",
    "select",
    "solve",
    "zoo",
]

# Names are fetched at first use: torch takes seconds to import, and `coldpress --help` needs none of it.
_HOMES = {
    "artifact": ("load",),
    "budget": ("Budget",),
    "few_bits.network": ("RoundedNetwork", "round_network"),
    "few_bits.factors": ("factor_network",),
    "packed": ("PackedSize", "pack_weights"),
    "pipeline": ("Preview", "Result", "compress", "predict"),
    "plan": ("Plan", "Space"),
    "problem": ("Cost", "Energy", "Factor", "Problem"),
    "recipe": ("Recipe",),
    "few_bits.artifact": ("RoundedResult", "round_to_artifact"),
    "selection": ("Selection",),
    "solvers": ("Answer", "solve"),
    "solvers.select": ("Selected", "select"),
    "space": ("find_space",),
    "surgery.round_layers": ("Form",),
    "surgery.round_weights": ("Rounded", "round_weights"),
    "task": ("Task",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in ("errors", "zoo"):
        return import_module(f"coldpress.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'coldpress' has no attribute {name!r}")
    value = getattr(import_module(f"coldpress.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
