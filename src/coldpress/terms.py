"""What a plan weighs: the energy of its options, and each cost as a sum of factors. Arrays and names only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldpress.errors import PlanError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Energy:
    """Predicted harm of a plan: ``constant + linear @ x + x @ quadratic @ x / 2``.

    ``x`` is the 0/1 vector over all options of all units, unit after unit.

    Args:
        quadratic: symmetric, shape ``(options, options)``; the diagonal counts.
        linear: shape ``(options,)``.
        constant: energy of the empty sum.

    Raises:
        PlanError: shapes that do not fit, NaN or infinite entries, or an asymmetric matrix.
    """

    quadratic: Floats
    linear: Floats
    constant: float = 0.0

    def __post_init__(self) -> None:
        quadratic = np.ascontiguousarray(self.quadratic, dtype=np.float64)
        linear = np.ascontiguousarray(self.linear, dtype=np.float64)
        n = linear.shape[0] if linear.ndim == 1 else -1
        if quadratic.shape != (n, n):
            raise PlanError(
                f"an energy needs quadratic (n, n) and linear (n,), not {quadratic.shape} and {linear.shape}"
            )
        if not (np.isfinite(quadratic).all() and np.isfinite(linear).all() and np.isfinite(self.constant)):
            raise PlanError("the energy has NaN or infinite entries; forbid a combination by +inf in a cost factor")
        scale = float(np.abs(quadratic).max(initial=0.0))
        if not np.allclose(quadratic, quadratic.T, rtol=0.0, atol=1e-6 * scale):
            raise PlanError("the energy's quadratic part is not symmetric; give (K + K.T) / 2")
        object.__setattr__(self, "quadratic", (quadratic + quadratic.T) / 2)
        object.__setattr__(self, "linear", linear)

    def value(self, x: ArrayLike) -> float:
        """Energy of ``x``, the vector over all options, shape ``(options,)``; fractions are allowed."""
        v = np.asarray(x, dtype=np.float64)
        return float(self.constant + self.linear @ v + 0.5 * v @ self.quadratic @ v)

    @cached_property
    def is_convex(self) -> bool:
        """Whether the quadratic part is positive semi-definite, up to rounding."""
        if not self.quadratic.size:
            return True
        values = np.linalg.eigvalsh(self.quadratic)
        return bool(values[0] >= -1e-9 * max(abs(values[-1]), 1e-300))


@dataclass(frozen=True, eq=False)
class Factor:
    """Part of a cost that depends on a few units together.

    Args:
        units: indices of the units, each once.
        table: shape ``(options of units[0], options of units[1], ...)``; +inf forbids a combination.
    """

    units: tuple[int, ...]
    table: Floats

    def __post_init__(self) -> None:
        object.__setattr__(self, "units", tuple(int(unit) for unit in self.units))
        object.__setattr__(self, "table", np.ascontiguousarray(self.table, dtype=np.float64))
        if len(set(self.units)) != len(self.units) or self.table.ndim != len(self.units):
            raise PlanError(f"a factor over units {self.units} cannot have a table of shape {self.table.shape}")
        if np.isnan(self.table).any() or (self.table == -np.inf).any():
            raise PlanError(
                f"the factor over units {self.units} has NaN or -inf entries; only +inf (forbidden) is allowed"
            )


@dataclass(frozen=True, eq=False)
class Cost:
    """One quantity that a plan costs: the sum of its factors and a constant, exact."""

    name: str
    factors: tuple[Factor, ...] = ()
    constant: float = 0.0

    def value(self, choice: ArrayLike) -> float:
        """Cost of ``choice``, option indices of shape ``(units,)``; +inf when a combination is forbidden."""
        chosen = np.asarray(choice)
        parts = (factor.table[tuple(chosen[list(factor.units)])] for factor in self.factors)
        return float(self.constant + sum(parts))

    def forbidden(self, choice: ArrayLike) -> list[Factor]:
        """The factors that forbid ``choice`` (option indices, shape ``(units,)``)."""
        chosen = np.asarray(choice)
        return [factor for factor in self.factors if np.isinf(factor.table[tuple(chosen[list(factor.units)])])]
