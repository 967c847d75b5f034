"""The part of a problem that may still hold a better plan."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from coldpress.budget import Limits
from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.solvers._answer import Progress
from coldpress.solvers._state import Floats, Ints


class Part(NamedTuple):
    """A problem over some of another's options.

    Attributes:
        problem: all units, fewer options each; the limits in absolute numbers.
        options: per unit, the index that each option has in the whole problem, ascending.
        counts: number of options of each unit in the whole problem.
    """

    problem: Problem
    options: list[Ints]
    counts: tuple[int, ...]

    @property
    def places(self) -> Ints:
        """Where the part's options lie among those of the whole problem, shape ``(options,)``."""
        first = np.concatenate([[0], np.cumsum(self.counts)])[:-1]
        return np.concatenate([start + options for start, options in zip(first, self.options)]).astype(np.int64)

    @classmethod
    def all_of(cls, problem: Problem) -> Part:
        """Nothing left out."""
        return cls(problem, [np.arange(size) for size in problem.sizes], problem.sizes)

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
        smaller = Problem.from_arrays([len(keep) for keep in kept], energy, costs, Limits(numbers=problem.limits))
        return Part(smaller, [options[keep] for options, keep in zip(self.options, kept)], self.counts)

    def progress(self, outer: Progress) -> Progress:
        """A run on the part that goes on from ``outer``, with the same clock."""
        inner = Progress(self.problem, outer.time_limit, outer.started, bound=outer.bound)
        known = None if outer.choice is None else self.own(outer.choice)
        if known is not None:
            inner.choice, inner.energy = known, outer.energy
        return inner

    def report(self, inner: Progress, outer: Progress) -> None:
        """Give what a run on the part has found to ``outer``; what was left out lies above its energy."""
        if inner.choice is not None:
            outer.choice, outer.energy = self.whole(inner.choice), inner.energy
        outer.bound = inner.bound
        outer.trace += inner.trace
        outer.evaluations += inner.evaluations
        outer.impossible |= inner.impossible  # where no plan is known nothing was left out
