"""Which of many single units go: least quadratic harm of low rank, under linear budgets. Arrays only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldpress.errors import PlanError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Selection:
    """Minimise ``linear . x + |factor^T x|^2 / 2`` over 0/1 vectors x, where 1 means that the unit goes.

    What a unit harms alone belongs to ``linear``, half a diagonal D too: x^2 = x, and there it tightens the relaxation
    most (a third of the bound, measured on problems of diagonal and low rank).

    Args:
        linear: shape ``(n,)``.
        factor: a row for each unit, ``(n, rank)``; nothing larger is ever formed.
        gains: what each unit that goes frees of each budget, at least 0: ``(budgets, n)``; none by default.
        needs: what must be freed: ``gains @ x >= needs``, ``(budgets,)``.
        groups: the group of each unit, 0 to groups - 1, ``(n,)``; one group by default.
        least, most: how many units of each group must, and may, go: ``(groups,)``; any number by default.

    Raises:
        PlanError: shapes do not fit, a number is not finite, a gain is negative, or a group has ``least > most``.

    Example:
        >>> problem = Selection.of_size([0.1, 0.2, 0.0, 0.3], [[1.0], [-1.0], [2.0], [-2.0]], 2)
        >>> round(problem.energy_of([True, True, False, False]), 3)
        0.3
    """

    linear: Floats
    factor: Floats
    gains: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    needs: Floats = field(default_factory=lambda: np.zeros(0))
    groups: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    least: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    most: Ints = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        linear, factor = _numbers("linear", self.linear, 1), _numbers("factor", self.factor, 2)
        n = len(linear)
        needs = _numbers("needs", self.needs, 1)
        gains = np.zeros((0, n)) if np.size(self.gains) == 0 else _numbers("gains", self.gains, 2)
        if n == 0 or len(factor) != n or gains.shape != (len(needs), n):
            raise PlanError(
                f"linear {linear.shape}, factor {factor.shape}, gains {gains.shape} and needs {needs.shape} do not "
                "fit; give (n,), (n, rank), (budgets, n) and (budgets,), n > 0"
            )
        if (gains < 0).any():
            raise PlanError("gains has negative entries; a unit that goes frees 0 or more of every budget")
        groups = np.asarray(self.groups if np.size(self.groups) else np.zeros(n), dtype=np.int64)
        if groups.shape != (n,) or groups.min() < 0:
            raise PlanError(f"groups has shape {groups.shape}; give ({n},) numbers from 0")
        sizes = np.bincount(groups)
        least = np.asarray(self.least if np.size(self.least) else np.zeros(len(sizes)), dtype=np.int64)
        most = np.asarray(self.most if np.size(self.most) else sizes, dtype=np.int64)
        if least.shape != sizes.shape or most.shape != sizes.shape:
            raise PlanError(
                f"least {least.shape} and most {most.shape} must have an entry for each group, {sizes.shape}"
            )
        least, most = np.maximum(least, 0), np.minimum(most, sizes)
        if (least > most).any():
            g = int(np.argmax(least > most))
            raise PlanError(f"group {g} must lose {least[g]} units and may lose {most[g]} of {sizes[g]}; allow more")
        for name, value in zip(
            ("linear", "factor", "gains", "needs", "groups", "least", "most"),
            (linear, factor, gains, needs, groups, least, most),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def of_size(cls, linear: ArrayLike, factor: ArrayLike, size: int) -> Selection:
        """Exactly ``size`` units go, and nothing else is asked for."""
        if not 0 <= size <= np.size(linear):
            raise PlanError(f"size is {size}, but there are {np.size(linear)} units; give 0 to {np.size(linear)}")
        return cls(np.asarray(linear), np.asarray(factor), least=np.array([size]), most=np.array([size]))

    def __len__(self) -> int:
        return len(self.linear)

    @cached_property
    def own(self) -> Floats:
        """Half the squared length of each row of the factor, ``(n,)``: its share of the unit's harm alone."""
        return 0.5 * np.einsum("ij,ij->i", self.factor, self.factor)

    def energy_of(self, x: ArrayLike) -> float:
        """Harm of ``x``, shape ``(n,)``; fractions are allowed."""
        v = np.asarray(x, dtype=np.float64)
        pull = v @ self.factor
        return float(v @ self.linear + 0.5 * pull @ pull)

    def slack(self, x: ArrayLike) -> Floats:
        """What ``x`` frees beyond the needs, ``(budgets,)``."""
        return np.asarray(self.gains @ np.asarray(x, dtype=np.float64) - self.needs)

    def counts(self, chosen: Bools) -> Ints:
        """How many units of each group go, ``(groups,)``."""
        return np.bincount(self.groups[chosen], minlength=len(self.most)).astype(np.int64)

    def feasible(self, chosen: Bools) -> bool:
        """Whether ``chosen``, shape ``(n,)``, meets every need (to 1e-9 of it) and every group's limits."""
        counts = self.counts(chosen)
        within = (counts >= self.least).all() and (counts <= self.most).all()
        return bool(within and (self.slack(chosen) >= -1e-9 * np.abs(self.needs)).all())

    def undecided(self) -> Bools:
        """The units of groups that neither keep all nor lose all, ``(n,)``."""
        open_groups = (self.most > 0) & (self.least < np.bincount(self.groups))
        return open_groups[self.groups]

    def among(self, free: Bools, chosen: Bools) -> tuple[Selection, float]:
        """The problem over the ``free`` units while all others are as ``chosen`` says, and the energy of those.

        Args:
            free: ``(n,)``, at least one.
            chosen: ``(n,)``; entries of free units do not count.
        """
        if free.all():
            return self, 0.0
        others = chosen & ~free
        pull = others.astype(np.float64) @ self.factor
        factor = np.ascontiguousarray(self.factor[free])
        gone = self.counts(others)
        names, groups = np.unique(self.groups[free], return_inverse=True)
        part = replace(
            self,
            linear=self.linear[free] + factor @ pull,
            factor=factor,
            gains=self.gains[:, free],
            needs=self.needs - self.gains @ others,
            groups=groups.astype(np.int64),
            least=(self.least - gone)[names],
            most=(self.most - gone)[names],
        )
        return part, self.energy_of(others)


def _numbers(name: str, values: Any, dimensions: int) -> Floats:
    try:
        array = np.ascontiguousarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PlanError(f"{name} must be an array of numbers: {error}") from error
    if array.ndim != dimensions:
        raise PlanError(f"{name} has shape {array.shape}; it must have {dimensions} dimensions")
    if not np.isfinite(array).all():
        raise PlanError(f"{name} has NaN or infinite entries; give finite numbers")
    return array
