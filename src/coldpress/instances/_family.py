"""What an instance is, and what a family of them promises."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from dimod import BinaryQuadraticModel

from coldpress.instances.cardinality import CardinalityProblem
from coldpress.problem import Problem

Instance: TypeAlias = Problem | BinaryQuadraticModel | CardinalityProblem


class Family(Protocol):
    """Seeded instances of one kind: a frozen dataclass of sizes, so that a family is named, compared and pickled."""

    @property
    def name(self) -> str:
        """By which it is asked for."""

    @property
    def title(self) -> str:
        """What it is, in a line."""

    def make(self, seed: int = 0) -> Instance:
        """The instance of a seed: the same one everywhere."""
