"""Reinforcement learning, a comparator: a policy takes the units in order and learns from whole plans.

REINFORCE (Williams 1992) with the ranks of a batch as rewards. As in AMC (He et al. 2018, arXiv:1802.03494) units are
decided one after the other, each with a look at what was done so far, and a plan beyond the budget is brought inside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from coldpress.problem import Problem
from coldpress.solvers._answer import Answer
from coldpress.solvers._begin import begin, brought_inside
from coldpress.solvers._last import offer_smallest
from coldpress.solvers._state import Ints
from coldpress.solvers.genetic import energies_of

Floats = NDArray[np.float64]
MOMENTUM = 0.9


def solve(
    problem: Problem,
    *,
    seed: int = 0,
    time_limit: float = 10.0,
    num_updates: int = 400,
    batch_size: int = 32,
    lr: float = 0.5,
) -> Answer:
    """Learn a policy over the units in order, by policy gradient, and keep the best plan that it came upon.

    Args:
        problem: what to solve.
        seed: same seed, same plan, as long as the updates end before the time does.
        time_limit: seconds.
        num_updates: steps of the policy.
        batch_size: plans drawn for each.
        lr: step in the policy's logits.

    Raises:
        BudgetError: no plan inside the budget was found.
    """
    progress, arrays = begin(problem, time_limit)
    policy = Policy(problem.sizes, np.random.default_rng(seed))
    for update in range(num_updates):
        if update and progress.left == 0.0:
            break
        drawn, states = policy.draw(batch_size)
        kept = [i for i, plan in enumerate(drawn) if brought_inside(problem, arrays, plan)]
        if not kept:
            continue
        energies = energies_of(problem, drawn[kept])
        progress.evaluated += len(kept)
        progress.offer(drawn[kept][int(energies.argmin())])
        policy.learn(drawn[kept], states[kept], energies, lr)
    if progress.choice is None:
        offer_smallest(progress)
    return progress.answer("reinforce")


class Policy:
    """Logits of each unit's options: a table, and a slope along the mean strength of the options taken before."""

    def __init__(self, sizes: tuple[int, ...], generator: np.random.Generator) -> None:
        self.sizes, self.generator = sizes, generator
        self.logits = [np.zeros((2, size)) for size in sizes]
        self.speed = [np.zeros((2, size)) for size in sizes]

    def draw(self, count: int) -> tuple[Ints, Floats]:
        """Plans ``(count, units)``, and what each decision saw, ``(count, units)``: the mean strength so far."""
        plans = np.zeros((count, len(self.sizes)), dtype=np.int64)
        states, strength = np.zeros(plans.shape), np.zeros(count)
        for u, size in enumerate(self.sizes):
            states[:, u] = strength / max(u, 1)
            points = self.generator.random((count, 1))
            plans[:, u] = (points > np.cumsum(self._probabilities(u, states[:, u]), axis=1)[:, :-1]).sum(axis=1)
            strength += plans[:, u] / max(size - 1, 1)
        return plans, states

    def learn(self, plans: Ints, states: Floats, energies: Floats, lr: float) -> None:
        """Make plans of less energy likelier; an advantage is a plan's rank, centred."""
        ranks = np.argsort(np.argsort(energies))
        advantages = (0.5 - ranks / max(len(ranks) - 1, 1))[:, None]
        for u, size in enumerate(self.sizes):
            chosen = np.eye(size)[plans[:, u]]
            slope = advantages * (chosen - self._probabilities(u, states[:, u])) / len(plans)
            step = np.stack([slope.sum(axis=0), (states[:, u, None] * slope).sum(axis=0)])
            self.speed[u] = MOMENTUM * self.speed[u] + step
            self.logits[u] += lr * self.speed[u]

    def _probabilities(self, unit: int, states: Floats) -> Floats:
        """Of each option, ``(plans, options)``."""
        table, along = self.logits[unit]
        logits = table + states[:, None] * along
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))
