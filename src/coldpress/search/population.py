"""The population: each individual's q-state and best, what it shows, what it learns from a trial, and migration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from coldpress.search.amplitudes import QDit
from coldpress.search.angles import OrderedAngle
from coldpress.search.scales import Scale
from coldpress.search.solutions import Solution, fronts, standing

QState = QDit | OrderedAngle
LARGEST_EPSILON = 0.4
"""Where the bound of repeated attempts ends; at 0.5 a q-bit would be a coin."""
GROUP = 2
"""Neighbours that share their best at every generation, where the population is larger than one such group."""


@dataclass(frozen=True)
class Rules:
    """How a population learns; see QIEASampler for the meanings and the ranges."""

    population_size: int
    rotation: float
    epsilon: float
    migration_interval: int


@dataclass(frozen=True)
class Individual:
    """A q-state for each parameter met so far, and the best of this individual's trials."""

    states: Mapping[str, QState] = field(default_factory=dict)
    best: Solution | None = None

    def state(self, name: str, distribution: BaseDistribution) -> QState:
        """The q-state of a parameter; an even one where the parameter, or its kind, is new."""
        known = self.states.get(name)
        return start(distribution) if type(known) is not kind(distribution) else known.on(distribution)

    def turned(self, seen: Solution, rules: Rules) -> Individual:
        """Rotated toward the best, after a worse trial: the table of Han and Kim (2002), parameter by parameter."""
        states = dict(self.states)
        for name, distribution in seen.distributions.items():
            if self.best is not None and comparable(self.best.distributions.get(name), distribution):
                state = self.state(name, distribution)
                target = self.best.params[name]
                states[name] = state.rotated(seen.params[name], target, rules.rotation, rules.epsilon)
        return replace(self, states=states)

    def settled(self, seen: Solution) -> Individual:
        """With ``seen`` as the best."""
        states = dict(self.states)
        for name, distribution in seen.distributions.items():
            states[name] = self.state(name, distribution).settled(seen.params[name])
        return Individual(states, seen)


@dataclass(frozen=True)
class Population:
    """Individuals that take the trials in turn: trial n belongs to individual ``n % population_size``.

    A population is never changed: learning makes another. It depends on the trials learned and their order alone.
    """

    rules: Rules
    individuals: tuple[Individual, ...]
    generation: int = 0

    @classmethod
    def start(cls, rules: Rules) -> Population:
        """Individuals that know nothing."""
        return cls(rules, (Individual(),) * rules.population_size)

    def observe(
        self, number: int, name: str, distribution: BaseDistribution, generator: np.random.Generator, attempt: int = 0
    ) -> Any:
        """A value for a parameter of trial ``number``, drawn from its individual's q-state.

        Each further attempt at a trial is drawn under a wider bound, so that a q-state that has settled shows its near
        neighbours first.
        """
        individual = self.individuals[number % self.rules.population_size]
        epsilon = min(self.rules.epsilon * (1 + attempt), LARGEST_EPSILON)
        return individual.state(name, distribution).observe(generator, epsilon)

    def learn(self, seen: Solution) -> Population:
        """What the population is after one more trial; trials come in the order of their numbers.

        A trial on a worse front than its individual's best turns that individual toward its best. One on a better
        front, or less crowded on the same one, becomes the best. One that was stopped early counts as worse
        than any other that violates the constraints as much.
        """
        generation = seen.number // self.rules.population_size
        individuals = self._migrated(generation)
        place = seen.number % self.rules.population_size
        own = individuals[place]
        if own.best is None:
            changed = own if seen.losses is None else own.settled(seen)
        else:
            others = [i.best for n, i in enumerate(individuals) if i.best is not None and n != place]
            new, old = standing([seen, own.best, *others])[:2]
            changed = own.turned(seen, self.rules) if new[0] > old[0] else own.settled(seen) if new < old else own
        individuals = (*individuals[:place], changed, *individuals[place + 1 :])
        return Population(self.rules, individuals, generation)

    def _migrated(self, generation: int) -> tuple[Individual, ...]:
        """Bests handed on when a generation begins: within groups each time, among all every ``migration_interval``."""
        if generation == self.generation:
            return self.individuals
        interval = self.rules.migration_interval
        if generation // interval > self.generation // interval:
            return share(self.individuals)
        if self.rules.population_size <= GROUP:
            return self.individuals
        groups = [share(self.individuals[at : at + GROUP]) for at in range(0, len(self.individuals), GROUP)]
        return tuple(individual for group in groups for individual in group)


def share(group: tuple[Individual, ...]) -> tuple[Individual, ...]:
    """Give each individual whose best is dominated in the group one of the first front's, in turn."""
    holders = [individual for individual in group if individual.best is not None]
    bests = [individual.best for individual in holders if individual.best is not None]
    front = [best for best, number in zip(bests, fronts(bests), strict=True) if number == 0]
    if not front:
        return group
    kept = {best.number for best in front}
    return tuple(
        individual
        if individual.best is not None and individual.best.number in kept
        else replace(individual, best=front[place % len(front)])
        for place, individual in enumerate(group)
    )


def start(distribution: BaseDistribution) -> QState:
    """The q-state that knows nothing of a parameter."""
    return kind(distribution).start(distribution)


def kind(distribution: BaseDistribution) -> type[QDit] | type[OrderedAngle]:
    """Q-bits and q-dits for two options and for unordered ones, angles for all else."""
    unordered = isinstance(distribution, CategoricalDistribution) or Scale.of(distribution).levels == 2
    return QDit if unordered else OrderedAngle


def comparable(one: BaseDistribution | None, other: BaseDistribution) -> bool:
    """Whether a value of ``one`` can be placed among those of ``other``."""
    if isinstance(one, CategoricalDistribution) and isinstance(other, CategoricalDistribution):
        return bool(one.choices == other.choices)
    return type(one) is type(other)
