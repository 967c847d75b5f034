"""Who may take part: every solver and sampler, by name, with what it takes and what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dimod

from coldpress.contest import _cardinality, _choosers, _embedded, _penalties, _samplers
from coldpress.contest.attempt import Attempt
from coldpress.instances import CardinalityProblem, Instance
from coldpress.names import called
from coldpress.problem import Problem
from coldpress.solvers import SOLVERS

CHAINS, MOCK = "sa-on-pegasus", "mock-qpu-simulated"
Play = Callable[[str, Any, int, float], Attempt]


@dataclass(frozen=True)
class Contestant:
    """A solver or a sampler.

    Attributes:
        name: by which it is asked for.
        title: what it is, in a line.
        plays: how it takes each kind of instance that it takes: ``(name, instance, seed, seconds) -> Attempt``.
        most: variables, or options, of the largest instance of a kind that it is given; others have no limit.
        why: no more are given.
    """

    name: str
    title: str
    plays: Mapping[type, Play]
    most: Mapping[type, int] = field(default_factory=dict)
    why: str = ""

    def refusal(self, instance: Instance) -> str | None:
        """Why it is given no such instance; None where it takes it."""
        kind, (what, size) = kind_of(instance), measured(instance)
        alone = self.name == CHAINS and CONTESTANTS[MOCK].refusal(instance) is not None
        unmeasured = ", so no chain breaks are measured here" if alone else ""
        if kind not in self.plays:
            return f"not made for {KINDS[kind]}{_terms(self, instance)}{unmeasured}"
        if size > self.most.get(kind, size):
            return f"{size:,} {what}, of which it takes up to {self.most[kind]:,}: {self.why}{unmeasured}"
        return None

    def takes(self, instance: Instance) -> bool:
        """Whether it can be given such an instance."""
        return self.refusal(instance) is None

    def play(self, instance: Instance, seed: int, limit: float) -> Attempt:
        """One run of ``limit`` seconds."""
        return self.plays[kind_of(instance)](self.name, instance, seed, limit)


def _terms(one: Contestant, instance: Instance) -> str:
    """Why what takes models without constraints is not given a choice of so many of n as such a model."""
    if not isinstance(instance, CardinalityProblem) or dimod.BinaryQuadraticModel not in one.plays:
        return ""
    n, rank = instance.factor.shape
    return f": it would be given {n * (n - 1) // 2:,} quadratic terms, where those that play work on {rank} factors"


KINDS: Mapping[type, str] = {
    dimod.BinaryQuadraticModel: "models without constraints",
    Problem: "layer choice",
    CardinalityProblem: "choosing so many of n",
}


def kind_of(instance: Instance) -> type:
    """One of `KINDS`."""
    return next(kind for kind in KINDS if isinstance(instance, kind))


def measured(instance: Instance) -> tuple[str, int]:
    """What an instance has so many of: variables or options."""
    if isinstance(instance, Problem):
        return "options", sum(instance.sizes)
    if isinstance(instance, CardinalityProblem):
        return "variables", len(instance.diagonal)
    return "variables", len(instance.variables)


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
    "separable": "dynamic programming without couplings, judged with them",
    "tpe": "tree-structured Parzen estimator, Optuna",
    "tabu": "one-flip tabu search with path relinking, ours",
    "bifurcation": "simulated bifurcation, ours",
    "low-rank": "low-rank annealing, ours",
    "dwave-sa": "D-Wave's simulated annealing, on this processor",
    "dwave-path-integral": "D-Wave's path-integral annealing, on this processor",
    "dwave-tabu": "D-Wave's tabu search, on this processor",
    "dwave-descent": "D-Wave's steepest descent, on this processor",
    "blocks": "blocks of 16 enumerated in turn, ours",
    "exhaustive": "all states enumerated, ours",
    "dwave-tree-decomposition": "D-Wave's tree decomposition, exact, on this processor",
    "qaoa-simulated": "QAOA of three layers on a state vector, ours, simulated on this processor",
    "mock-qpu-simulated": "the vendor's mock of a QPU: no hardware, annealing simulated on this processor",
    "sa-on-pegasus": "D-Wave's simulated annealing of chains on a Pegasus graph, simulated",
    "diagonal": "the least each alone (OBD)",
    "descent": "exchanges that lower the energy",
    "select": "relaxed by an interior point method, rounded and annealed, ours",
}


def _known() -> dict[str, Contestant]:
    plays: dict[str, dict[type, Play]] = {name: {} for name in _TITLES}
    most: dict[str, dict[type, int]] = {}
    why = dict.fromkeys(SOLVERS, _choosers.WHY)
    for name in SOLVERS:
        plays[name] = {dimod.BinaryQuadraticModel: _choosers.play_model, Problem: _choosers.play}
        most[name] = {dimod.BinaryQuadraticModel: _choosers.most_variables(name)}
    for name, way in _samplers.WAYS.items():
        plays[name] = {dimod.BinaryQuadraticModel: _samplers.play, Problem: _penalties.play}
        most[name], why[name] = {dimod.BinaryQuadraticModel: way.most, Problem: way.most_options}, way.why
    for name in _cardinality.PLAYERS:
        plays[name][CardinalityProblem] = _cardinality.play
    plays[CHAINS][dimod.BinaryQuadraticModel] = _embedded.play
    most[CHAINS] = {dimod.BinaryQuadraticModel: _samplers.CHAINED}
    why[CHAINS] = _samplers.WAYS["mock-qpu-simulated"].why
    return {
        name: Contestant(name, _TITLES.get(name, name), found, most.get(name, {}), why.get(name, ""))
        for name, found in plays.items()
    }


CONTESTANTS: Mapping[str, Contestant] = _known()


def contestant(name: str) -> Contestant:
    """The contestant of this name.

    Raises:
        PlanError: there is none; near names are given.
    """
    return called(name, CONTESTANTS, "solver")
