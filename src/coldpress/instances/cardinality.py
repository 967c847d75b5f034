"""Choose so many of n: a diagonal plus a low-rank energy, as structures removed from a network give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldpress.errors import PlanError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CardinalityProblem:
    """Minimise ``diagonal . x + |factor^T x|^2`` over 0/1 vectors with ``cardinality`` ones.

    Args:
        diagonal: (n,).
        factor: (n, rank), a row for each variable.
        cardinality: 0 to n.

    Raises:
        PlanError: shapes do not fit, a number is not finite, or there are not so many variables.
    """

    diagonal: Floats
    factor: Floats
    cardinality: int

    def __post_init__(self) -> None:
        n = len(self.diagonal)
        if self.diagonal.shape != (n,) or self.factor.ndim != 2 or len(self.factor) != n:
            raise PlanError(f"diagonal {self.diagonal.shape} and factor {self.factor.shape} do not fit")
        if not (np.isfinite(self.diagonal).all() and np.isfinite(self.factor).all()):
            raise PlanError("diagonal or factor has NaN or infinite entries")
        if not 0 <= self.cardinality <= n:
            raise PlanError(f"cardinality is {self.cardinality}, but there are {n} variables; give 0 to {n}")

    def energies(self, states: ArrayLike) -> Floats:
        """Energies (reads,) of vectors (reads, n); fractions are allowed."""
        x = np.atleast_2d(np.asarray(states, dtype=np.float64))
        return np.asarray(x @ self.diagonal + np.square(x @ self.factor).sum(axis=1))

    def least_alone(self) -> NDArray[np.int8]:
        """The variables of least energy each alone, (n,): what ignoring the couplings chooses (OBD)."""
        own = self.diagonal + np.square(self.factor).sum(axis=1)
        return self._least(own).astype(np.int8)

    def lower_bound(self, iterations: int = 2000, gap: float = 1e-5) -> float:
        """No choice has less energy than this: the duality gap of Frank and Wolfe's method (1956, Jaggi 2013).

        Args:
            iterations: at most, each of n times rank products.
            gap: relative gap of the relaxation at which to stop.
        """
        x = np.full(len(self.diagonal), self.cardinality / max(len(self.diagonal), 1))
        pull = x @ self.factor
        best = -np.inf
        for _ in range(iterations):
            value = float(x @ self.diagonal + pull @ pull)
            gradient = self.diagonal + 2.0 * (self.factor @ pull)
            corner = self._least(gradient).astype(np.float64)
            step = corner - x
            slope = float(gradient @ step)
            best = max(best, value + slope)
            if value - best <= gap * abs(value):
                break
            change = corner @ self.factor - pull
            curve = float(change @ change)
            length = 1.0 if curve <= 0.0 else min(1.0, -slope / (2.0 * curve))
            x, pull = x + length * step, pull + length * change
        return best

    def _least(self, weights: Floats) -> NDArray[np.bool_]:
        chosen = np.zeros(len(weights), dtype=np.bool_)
        chosen[np.argsort(weights, kind="stable")[: self.cardinality]] = True
        return chosen


@dataclass(frozen=True)
class Cardinality:
    """Half of n structures are removed; their harms overlap along ``rank`` directions and partly cancel.

    A structure's loss gradient is a random direction of log-normal length with a part that all share, so that choices
    by each one's own harm miss the point.

    Args:
        n: variables, half of which are chosen.
        rank: of the couplings.
    """

    n: int = 4096
    rank: int = 64

    @property
    def name(self) -> str:
        """``cardinality-4096`` say."""
        return f"cardinality-{self.n}"

    @property
    def title(self) -> str:
        """In a line."""
        return f"choose {self.n // 2} of {self.n}, diagonal plus rank {self.rank}"

    def make(self, seed: int = 0) -> CardinalityProblem:
        """The instance of a seed."""
        rng = np.random.default_rng(seed)
        size = np.exp(rng.normal(size=self.n))
        rows = rng.normal(size=(self.n, self.rank)) + 0.3 * rng.normal(size=self.rank)
        factor = size[:, None] * rows / np.sqrt(self.n * self.rank)
        return CardinalityProblem(size * rng.exponential(size=self.n) / self.n, factor, self.n // 2)
