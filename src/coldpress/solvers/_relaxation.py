"""Lower bounds by mixtures of plans: simplicial decomposition of the convex energy (von Hohenbalken 1977).

The relaxed problem minimises the convex energy over all mixtures of plans whose mean costs meet the limits. The best
mixture of the plans known so far gives a gradient and a price of every limit; the plan that is cheapest under these
(found exactly by elimination over the cost tables) gives the bound ``f(y) + g'(x - y) + price'(cost(x) - room)``, and
joins the mixture. Costs stay exact: no product of widths is relaxed.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldpress.elimination import Elimination
from coldpress.problem import Problem
from coldpress.solvers._convex import Convex
from coldpress.solvers._master import best_mixture
from coldpress.solvers._state import Floats, Ints, merge_blocks


@dataclass(frozen=True, eq=False)
class Atoms:
    """Plans known: choices ``(k, U)``, their y ``(k, m)`` and costs ``(k, Q)`` in shares of the limits."""

    choices: Ints
    ys: Floats
    costs: Floats

    def __len__(self) -> int:
        return len(self.choices)

    def take(self, rows: NDArray[np.bool_]) -> Atoms:
        """Only these rows."""
        return Atoms(self.choices[rows], self.ys[rows], self.costs[rows])

    def join(self, other: Atoms) -> Atoms:
        """Both, in order."""
        return Atoms(
            np.concatenate([self.choices, other.choices]),
            np.concatenate([self.ys, other.ys]),
            np.concatenate([self.costs, other.costs]),
        )


class Oracle:
    """The cheapest plan under a gradient and prices of the limits, exact over the merged cost tables."""

    def __init__(self, problem: Problem) -> None:
        self.blocks, room = merge_blocks(problem)
        # A hair of room more than solvers use themselves, so that rounding never puts a bound above a feasible plan.
        self.room = room + 2e-9
        sizes = problem.sizes
        self.elimination = Elimination(sizes, [*((u,) for u in range(len(sizes))), *(b.units for b in self.blocks)])
        rows = [block.table.reshape(block.table.shape[0], -1) for block in self.blocks]
        every = np.concatenate(rows, axis=1) if rows else np.zeros((max(len(room), 1), 0))
        # 0 times inf is NaN: what is forbidden stays apart from what is priced.
        self._barrier = np.where(np.isinf(every[0]), np.inf, 0.0)
        self._shares = np.where(np.isinf(every), 0.0, every)[: len(room)]
        self._places = np.cumsum([0, *(row.shape[1] for row in rows)])[:-1]
        self._strides = np.zeros((len(rows), len(sizes)), dtype=np.int64)
        for stride, block in zip(self._strides, self.blocks):
            shape = block.table.shape[1:]
            stride[list(block.units)] = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]

    def cheapest(self, unary: Floats, prices: Floats) -> tuple[float, Ints]:
        """Least ``sum of unary + prices @ costs``, ``unary`` the options of all units in order, ``(options,)``.

        Returns:
            A lower bound (the value itself if exact) and its choice.
        """
        return self.elimination.minimise_flat(np.concatenate([unary, prices @ self._shares + self._barrier]))

    def costs(self, choice: Ints) -> Floats:
        """Costs ``(Q,)`` of an allowed choice in shares of the limits, constants left out."""
        return self._shares[:, self._places + self._strides @ choice].sum(axis=1)

    def atom(self, energy: Convex, choice: Ints) -> Atoms:
        """A choice as a row of `Atoms`."""
        return Atoms(choice[None], energy.vector(choice)[None], self.costs(choice)[None])


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Result of `relax`: the bound, the mixture's ``y`` and value, its plans and their weights."""

    bound: float
    value: float
    y: Floats
    atoms: Atoms
    weights: Floats
    gradient: Floats
    prices: Floats


def relax(
    energy: Convex,
    oracle: Oracle,
    atoms: Atoms,
    barred: list[Floats],
    *,
    penalty: float,
    cutoff: float = np.inf,
    floor: float = -np.inf,
    tolerance: float = 1e-3,
    rounds: int = 200,
    deadline: float = np.inf,
) -> Relaxed:
    """Lower-bound the energy over the plans that ``barred`` allows.

    Args:
        energy: convex, see `coldpress.solvers._convex.shift`.
        oracle: the cost tables.
        atoms: plans to begin with, at least one, all allowed by ``barred``.
        barred: per unit 0, or +inf for options that are not allowed, shape ``(options,)``.
        penalty: price of exceeding a limit by its own size; raised where it proves too low.
        cutoff: stop as soon as the bound reaches this.
        floor: stop as soon as it is clear that the bound will stay below this.
        tolerance: stop when the bound is this close to the mixture's value, relative to it or to the cutoff.
        rounds: at most so many plans are added.
        deadline: stop at this `time.perf_counter()`.

    Returns:
        The bound (+inf: no plan that ``barred`` allows meets the limits) and the mixture it was reached with.
    """
    room, bars = oracle.room, np.concatenate(barred)
    best = -np.inf
    products = atoms.ys @ energy.quadratic
    gram = products @ atoms.ys.T
    for step in range(rounds):
        weights, prices = best_mixture(gram, atoms.ys @ energy.linear, atoms.costs, room, penalty)
        y = weights @ atoms.ys
        gradient = energy.linear + weights @ products
        convex = float(energy.constant + 0.5 * y @ (gradient + energy.linear))
        excess = float(np.maximum(weights @ atoms.costs - room, 0.0).sum())
        value = convex + penalty * excess
        least, choice = oracle.cheapest(energy.options(gradient) + bars, prices)
        best = max(best, convex - float(gradient @ y) + least - float(prices @ room))
        slack = tolerance * max(abs(value), abs(cutoff) if np.isfinite(cutoff) else 0.0)
        known = bool((atoms.choices == choice).all(axis=1).any())
        if (
            best >= cutoff
            or value < floor
            or not np.isfinite(least)
            or time.perf_counter() > deadline
            or step == rounds - 1
        ):
            break
        if value - best <= slack or known:
            if excess < 1e-6:
                break
            # Farkas: prices under which every plan is too dear prove that none is inside the limits.
            cheapest, _ = oracle.cheapest(bars, prices)
            if cheapest - float(prices @ room) > 1e-7 * float(prices.sum()):
                best = np.inf
                break
            if penalty > 1e12 * (1.0 + abs(convex)):
                break
            penalty *= 10.0
            if known:
                continue
        kept = weights > 1e-9
        if len(atoms) > 40 and kept.sum() < 0.6 * len(atoms):
            atoms, products, gram = atoms.take(kept), products[kept], gram[np.ix_(kept, kept)]
        new = oracle.atom(energy, choice)
        product = new.ys @ energy.quadratic
        cross = atoms.ys @ product[0]
        smaller, gram = gram, np.empty((len(gram) + 1, len(gram) + 1))
        gram[:-1, :-1] = smaller
        gram[-1, :-1] = gram[:-1, -1] = cross
        gram[-1, -1] = product[0] @ new.ys[0]
        products = np.concatenate([products, product])
        atoms = atoms.join(new)
    return Relaxed(best, value, y, atoms, weights, gradient, prices)
