"""Who may take part: every solver and sampler, by name, with what it takes and what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dimod

from coldpress.contest import _cardinality, _choosers, _embedded, _penalties, _samplers
from coldpress.contest.attempt import Attempt
from coldpress.instances import CardinalityProblem, Instance
from coldpress.names import called
from coldpress.problem import Problem
from coldpress.solvers import SOLVERS

Play = Callable[[str, Any, int, float], Attempt]


@dataclass(frozen=True)
class Contestant:
    """A solver or a sampler.

    Attributes:
        name: by which it is asked for.
        title: what it is, in a line.
        plays: how it takes each kind of instance that it takes: ``(name, instance, seed, seconds) -> Attempt``.
    """

    name: str
    title: str
    plays: Mapping[type, Play]

    def takes(self, instance: Instance) -> bool:
        """Whether it can be given such an instance."""
        return self._play(instance) is not None and not self._too_large(instance)

    def play(self, instance: Instance, seed: int, limit: float) -> Attempt:
        """One run of ``limit`` seconds."""
        play = self._play(instance)
        assert play is not None
        return play(self.name, instance, seed, limit)

    def _play(self, instance: Instance) -> Play | None:
        return next((play for kind, play in self.plays.items() if isinstance(instance, kind)), None)

    def _too_large(self, instance: Instance) -> bool:
        if not isinstance(instance, dimod.BinaryQuadraticModel):
            return False
        most = _samplers.WAYS[self.name].most if self.name in _samplers.WAYS else _embedded.MOST_VARIABLES
        return len(instance.variables) > most


_TITLES = {
    "anneal": "one-hot annealing and descent, ours",
    "auto": "annealing, then branch and bound, ours: the default",
    "exact": "branch and bound, ours",
    "genetic": "genetic algorithm",
    "greedy": "descent from everything kept",
    "milp": "mixed-integer programming by HiGHS",
    "random": "random plans brought inside the budget",
    "reinforce": "policy gradient over the units in order",
    "relaxation": "mixtures of plans, rounded",
    "tpe": "tree-structured Parzen estimator, Optuna",
    "tabu": "one-flip tabu search with path relinking, ours",
    "bifurcation": "simulated bifurcation, ours",
    "low-rank": "low-rank annealing, ours",
    "dwave-sa": "D-Wave's simulated annealing, on this processor",
    "dwave-path-integral": "D-Wave's path-integral annealing, on this processor",
    "dwave-tabu": "D-Wave's tabu search, on this processor",
    "dwave-descent": "D-Wave's steepest descent, on this processor",
    "sa-on-pegasus": "D-Wave's simulated annealing of chains on a Pegasus graph, simulated",
    "diagonal": "the least each alone (OBD)",
    "descent": "exchanges that lower the energy",
    "select": "relaxed by an interior point method, rounded and annealed, ours",
}


def _known() -> dict[str, Contestant]:
    plays: dict[str, dict[type, Play]] = {name: {} for name in _TITLES}
    for name in SOLVERS:
        plays.setdefault(name, {})[Problem] = _choosers.play
    for name in _samplers.WAYS:
        plays[name] = {dimod.BinaryQuadraticModel: _samplers.play, Problem: _penalties.play}
    for name in _cardinality.PLAYERS:
        plays[name][CardinalityProblem] = _cardinality.play
    plays["sa-on-pegasus"][dimod.BinaryQuadraticModel] = _embedded.play
    return {name: Contestant(name, _TITLES.get(name, name), found) for name, found in plays.items()}


CONTESTANTS: Mapping[str, Contestant] = _known()


def contestant(name: str) -> Contestant:
    """The contestant of this name.

    Raises:
        PlanError: there is none; near names are given.
    """
    return called(name, CONTESTANTS, "solver")
