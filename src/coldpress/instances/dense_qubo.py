"""Unconstrained: every pair of variables coupled at random."""

from __future__ import annotations

from dataclasses import dataclass

import dimod
import numpy as np


@dataclass(frozen=True)
class DenseQubo:
    """All weights, of variables and of pairs, whole numbers drawn evenly from -100 to 100.

    These are the weights of Beasley's instances ("Heuristic algorithms for the unconstrained binary quadratic
    programming problem", 1998), here for every pair. Whole numbers this small are exact in float32.

    Args:
        n: variables.
    """

    n: int = 2000

    @property
    def name(self) -> str:
        """``qubo-2000`` say."""
        return f"qubo-{self.n}"

    @property
    def title(self) -> str:
        """In a line."""
        return f"dense random QUBO of {self.n} variables"

    def make(self, seed: int = 0) -> dimod.BinaryQuadraticModel:
        """The instance of a seed."""
        rng = np.random.default_rng(seed)
        weights = np.triu(rng.integers(-100, 101, size=(self.n, self.n)).astype(np.float32))
        return dimod.Float32BQM(weights, "BINARY")
