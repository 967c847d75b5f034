"""What a finished trial says, and which of several is better: constrained domination, fronts, crowding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class Solution:
    """A finished trial.

    Args:
        number: the trial's number.
        params: value of each parameter.
        distributions: distribution of each parameter.
        losses: one for each objective, lower is better; None where the trial was stopped early.
        violation: sum of the positive constraint values; 0 is feasible.
    """

    number: int
    params: Mapping[str, Any]
    distributions: Mapping[str, BaseDistribution]
    losses: tuple[float, ...] | None
    violation: float = 0.0


def dominates(one: Solution, other: Solution) -> bool:
    """Whether ``one`` violates less, or violates as much and is nowhere worse and somewhere better.

    One that was stopped early is worse than any other that violates as much.
    """
    if one.violation != other.violation:
        return one.violation < other.violation
    if one.losses is None or other.losses is None:
        return other.losses is None and one.losses is not None
    return one.losses != other.losses and all(a <= b for a, b in zip(one.losses, other.losses, strict=True))


def fronts(solutions: Sequence[Solution]) -> list[int]:
    """Number of each solution's front: 0 for those that none dominates, 1 for those that only these dominate, ..."""
    front = [-1] * len(solutions)
    left, number = list(range(len(solutions))), 0
    while left:
        best = [i for i in left if not any(dominates(solutions[j], solutions[i]) for j in left)]
        for i in best:
            front[i] = number
        left, number = [i for i in left if front[i] < 0], number + 1
    return front


def crowding(solutions: Sequence[Solution]) -> list[float]:
    """How far apart each solution's neighbours are, over all objectives (NSGA-II, Deb et al. 2002); ends: infinite."""
    distance = [0.0] * len(solutions)
    losses = [solution.losses or () for solution in solutions]
    for objective in range(len(losses[0]) if losses else 0):
        order = sorted(range(len(losses)), key=lambda i: losses[i][objective])
        values = [losses[i][objective] for i in order]
        width = values[-1] - values[0]
        if not 0.0 < width < math.inf:
            continue
        distance[order[0]] = distance[order[-1]] = math.inf
        for place in range(1, len(order) - 1):
            distance[order[place]] += (values[place + 1] - values[place - 1]) / width
    return distance


def standing(solutions: Sequence[Solution]) -> list[tuple[int, float]]:
    """A key for each solution, least is best: its front, then its crowding distance within that front, negated."""
    front = fronts(solutions)
    keys = [(number, 0.0) for number in front]
    for number in set(front):
        members = [i for i, own in enumerate(front) if own == number]
        for i, distance in zip(members, crowding([solutions[i] for i in members]), strict=True):
            keys[i] = (number, -distance)
    return keys
