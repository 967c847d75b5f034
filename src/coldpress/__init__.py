"""Makes trained PyTorch models smaller and faster on CPUs: width, rank, depth and bits decided together."""

from importlib.metadata import PackageNotFoundError, version

from coldpress import errors, zoo
from coldpress.artifact import load
from coldpress.budget import Budget
from coldpress.pipeline import Result, compress
from coldpress.plan import Plan, Space
from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.recipe import Recipe
from coldpress.solvers import Answer, solve
from coldpress.space import find_space
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
    "Plan",
    "Problem",
    "Recipe",
    "Result",
    "Space",
    "Task",
    "compress",
    "errors",
    "find_space",
    "load",
    "solve",
    "zoo",
]
