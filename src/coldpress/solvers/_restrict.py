"""The part of a problem that may still hold a better plan."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.solvers._state import Floats, Ints


class Part(NamedTuple):
    """A problem over some of another's options.

    Attributes:
        problem: all units, fewer options each; the limits in absolute numbers.
        options: per unit, the index that each option has in the whole problem, ascending.
    """

    problem: Problem
    options: list[Ints]

    @classmethod
    def all_of(cls, problem: Problem) -> Part:
        """Nothing left out."""
        return cls(problem, [np.arange(size) for size in problem.sizes])

    def whole(self, choice: Ints) -> Ints:
        """A choice of the part as one of the whole problem."""
        return np.array([options[o] for options, o in zip(self.options, choice)], dtype=np.int64)

    def own(self, choice: Ints) -> Ints | None:
        """A choice of the whole problem as one of the part; None when it takes an option that was left out."""
        found = [np.flatnonzero(options == o) for options, o in zip(self.options, choice)]
        return np.array([at[0] for at in found], dtype=np.int64) if all(len(at) for at in found) else None

    def without(self, barred: list[Floats]) -> Part:
        """Leave out what is barred: per unit 0, or +inf for options to leave out, at least one kept everywhere."""
        kept = [np.flatnonzero(bar == 0) for bar in barred]
        problem = self.problem
        index = np.concatenate([start + keep for start, keep in zip(problem.offsets, kept)])
        given = problem.energy
        energy = Energy(given.quadratic[np.ix_(index, index)], given.linear[index], given.constant)
        costs = {
            name: Cost(
                name,
                tuple(Factor(f.units, f.table[np.ix_(*(kept[unit] for unit in f.units))]) for f in cost.factors),
                cost.constant,
            )
            for name, cost in problem.costs.items()
        }
        smaller = Problem.from_arrays([len(keep) for keep in kept], energy, costs, problem.limits)
        return Part(smaller, [options[keep] for options, keep in zip(self.options, kept)])
