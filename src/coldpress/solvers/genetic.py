"""A genetic algorithm whose children stay inside the budget: a comparator (Goldberg 1989, with tournaments)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coldpress.problem import Problem
from coldpress.solvers._answer import Answer, Progress
from coldpress.solvers._begin import begin, brought_inside
from coldpress.solvers._last import offer_smallest
from coldpress.solvers._state import Arrays, Ints, allowed_start, merge_blocks

Floats = NDArray[np.float64]


def solve(
    problem: Problem,
    *,
    seed: int = 0,
    time_limit: float = 10.0,
    population_size: int = 64,
    num_generations: int = 400,
    tournament: int = 3,
) -> Answer:
    """Breed plans: parents by tournament, options from one of the two, a few changed, then brought inside the budget.

    Args:
        problem: what to solve.
        seed: same seed, same plan, as long as the generations end before the time does.
        time_limit: seconds.
        population_size: plans in a generation; the best of each lives on.
        num_generations: of children.
        tournament: plans that compete to be a parent.

    Raises:
        BudgetError: no plan inside the budget was found.
    """
    progress, arrays = begin(problem, time_limit)
    population = Population(problem.sizes, np.random.default_rng(seed), tournament)
    first = allowed_start(problem, merge_blocks(problem)[0])
    plans = _inside(problem, arrays, [first, *population.draw(population_size - 1)])
    if not len(plans):
        offer_smallest(progress)
        return progress.answer("genetic")
    population.learn(plans, _offered(progress, plans))
    for _ in range(num_generations):
        if progress.left == 0.0:
            break
        children = _inside(problem, arrays, population.draw(population_size))
        if len(children):
            population.learn(children, _offered(progress, children))
    return progress.answer("genetic")


class Population:
    """A generation of plans and their energies: whoever evaluates plans draws them here and tells what they are worth.

    Args:
        sizes: options of each unit.
        generator: of everything random.
        tournament: plans that compete to be a parent.
    """

    def __init__(self, sizes: tuple[int, ...], generator: np.random.Generator, tournament: int = 3) -> None:
        self.sizes, self.generator, self.tournament = np.array(sizes), generator, tournament
        self.plans, self.energies = np.zeros((0, len(sizes)), dtype=np.int64), np.zeros(0)

    def draw(self, count: int) -> Ints:
        """Plans ``(count, units)``: at random at first, then children of two parents, with a unit or so changed."""
        shape = (count, len(self.sizes))
        if not len(self.plans):
            return self.generator.integers(self.sizes, size=shape)
        fathers, mothers = (parents(self.energies, count, self.tournament, self.generator) for _ in range(2))
        mixed = np.where(self.generator.random(shape) < 0.5, self.plans[fathers], self.plans[mothers])
        changed = self.generator.random(shape) < 1.0 / len(self.sizes)
        return np.where(changed, self.generator.integers(self.sizes, size=shape), mixed)

    def learn(self, plans: Ints, energies: Floats) -> None:
        """Make these plans ``(plans, units)`` the generation, beside the best of the one before."""
        elite = self.energies.argsort(kind="stable")[:1]
        self.plans = np.concatenate([self.plans[elite], plans])
        self.energies = np.concatenate([self.energies[elite], energies])


def energies_of(problem: Problem, plans: Ints) -> Floats:
    """Energies ``(plans,)`` of option indices ``(plans, units)``."""
    index = problem.offsets[:-1] + plans
    x = np.zeros((len(plans), int(problem.offsets[-1])))
    np.put_along_axis(x, index, 1.0, axis=1)
    energy = problem.energy
    return np.asarray(energy.constant + x @ energy.linear + 0.5 * np.einsum("pi,pi->p", x @ energy.quadratic, x))


def _offered(progress: Progress, plans: Ints) -> Floats:
    """The plans' energies; the best of them is offered."""
    energies = energies_of(progress.problem, plans)
    progress.evaluated += len(plans)
    progress.offer(plans[int(energies.argmin())])
    return energies


def _inside(problem: Problem, arrays: Arrays, plans: list[Ints] | Ints) -> Ints:
    """The plans that single moves bring inside the budget, ``(plans, units)``; what is forbidden is left out."""
    found = []
    for plan in plans:
        own = np.array(plan, dtype=np.int64)
        if brought_inside(problem, arrays, own):
            found.append(own)
    return np.array(found, dtype=np.int64).reshape(len(found), len(problem.sizes))


def parents(energies: Floats, count: int, tournament: int, generator: np.random.Generator) -> Ints:
    """Indices of the best of so many plans drawn at random, ``(count,)``."""
    rivals = generator.integers(len(energies), size=(count, tournament))
    return np.take_along_axis(rivals, energies[rivals].argmin(axis=1)[:, None], axis=1)[:, 0]
