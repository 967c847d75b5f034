"""From a task to a plan: energy measured, problem solved, held against measurement, solved again."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from coldpress.budget import Budget
from coldpress.cost.table import LatencyTable
from coldpress.energy.curvature import Sensitivities, sensitivities
from coldpress.errors import BudgetError, PlanError
from coldpress.evidence import Evidence, Progress, calibration_parts
from coldpress.plan import Plan, Space
from coldpress.pricing import Prices
from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.solvers import Answer, relative_gap, solve
from coldpress.structures import Choices, Measured, measure_structures

logger = logging.getLogger("coldpress.planning")

ATTEMPTS = 6
FULL = 0.95
"""A plan that uses so much of its limit is not corrected any further."""
MARGIN = 0.02
"""Part of a limit on measured time that plans leave free: the same file measures about so much longer or shorter
another time. It is used where no plan fits without it."""


@dataclass
class Planned:
    """A plan and how it was come by.

    Attributes:
        plan: choices and kept channels.
        answer: the solver's last answer.
        problem: the problem it answers; its limit on a measured latency is without the margin (see `MARGIN`).
        costs: predicted, at the prices at which the plan was solved for (before its own shape was measured).
        kl: measured KL (nats) of the plan on calibration data, before the sequential re-fit.
        seconds, bytes: of a network of the plan's shape, measured; None and 0 where no limit needs it.
        rounds: the re-linearisations tried, with the loss before and after and whether they were accepted.
        by_alpha: measured KL (nats) of the plans solved for with so much of the energy's pairwise part, by that share
            (0 is none: units that do not interact); empty where only one share was tried.
    """

    plan: Plan
    answer: Answer
    problem: Problem
    costs: dict[str, float]
    kl: float
    seconds: float | None
    bytes: int
    rounds: list[dict[str, Any]] = field(default_factory=list)
    by_alpha: dict[float, float] = field(default_factory=dict)


def check_reachable(space: Space, prices: Prices, budget: Budget) -> None:
    """Raise BudgetError, before any time is spent, when a limit is below the smallest that a plan can reach."""
    nothing = Energy(np.zeros((sum(space.sizes),) * 2), np.zeros(sum(space.sizes)))
    problem = Problem(space, nothing, prices.costs(), budget)
    for quantity, limit in problem.limits.items():
        bound, best = problem.smallest(quantity)
        if bound > limit:
            original = problem.originals[quantity]
            smallest = best if np.isfinite(best) else bound
            raise BudgetError(
                f"no plan can meet {quantity} <= {_number(quantity, limit)} ({limit / original:.1%} of the original): "
                f"the smallest is {_number(quantity, smallest)} ({smallest / original:.1%}); raise the budget, or give "
                f"more kinds of unit with --units"
            )
    if not problem.limits:
        return
    try:
        solve(problem, "greedy", time_limit=5.0)
    except BudgetError:  # limits that bind together: greedy proves nothing
        solve(problem, "auto", time_limit=10.0)


def find_plan(
    evidence: Evidence, budget: Budget, rounds: int | None = None, progress: Progress | None = None
) -> Planned:
    """Solve for a plan within the budget, correct the prices by measuring its shape, and re-linearise around it.

    Args:
        evidence: what plans are found by.
        budget: absolute limits (not percentages).
        rounds: re-linearisations at most; the recipe's by default.
        progress: called with (step, done, in all).
    """
    task, space, effects = evidence.task, evidence.space, evidence.effects
    losses = _losses_by_alpha(evidence, budget)
    alpha = min(losses, key=lambda share: losses[share], default=0.0)
    planned = _within_measured(evidence, evidence.found.energy(space, alpha), budget)
    for number in range(evidence.recipe.rounds if rounds is None else rounds):
        around = sensitivities(
            task.model,
            space,
            effects,
            calibration_parts(task, evidence.recipe)[0],
            incumbent=planned.plan.choices,
            radius=1,
            progress=(lambda done, total: progress("re-linearise", done, total)) if progress else None,
        )
        local = around.energy(space, alpha)
        try:
            other = _within_measured(evidence, local, budget, trust_region(space, around))
        except BudgetError:
            logger.info("round %d: no plan within the trust region meets the budget", number + 1)
            break
        better = other.kl < planned.kl
        tried = [*planned.rounds, {"before": planned.kl, "after": other.kl, "accepted": better}]
        if not better:
            planned.rounds = tried
            break
        # the bound stays that of the global problem
        answer = _held_against(planned.answer, planned.problem, other.plan)
        planned = replace(other, rounds=tried, answer=answer, problem=planned.problem)
    planned.by_alpha = losses
    return planned


def given_plan(evidence: Evidence, choices: Choices, budget: Budget) -> Planned:
    """A plan that was found elsewhere, with its energy, its costs and, where a limit needs it, its network measured.

    Args:
        evidence: what its loss and costs are known by.
        choices: unit name to option label; units that are not named keep.
        budget: absolute limits; a plan beyond them is taken with a warning.

    Raises:
        PlanError: the space has no such unit or option, or the costs forbid them together.
    """
    space = evidence.space
    for name, label in choices.items():
        space.unit(name).index(label)
    energy = evidence.found.energy(space, evidence.correlation.alpha)
    problem = Problem(space, energy, evidence.prices.costs(), budget)
    plan = Plan(dict(choices), evidence.effects.kept(choices))
    choice = problem.choice(plan)
    for name, cost in problem.costs.items():
        for factor in cost.forbidden(choice):
            units = ", ".join(f"{space.units[u].name}={space.units[u].options[choice[u]].label}" for u in factor.units)
            raise PlanError(
                f"the plan cannot be carried out as it is: {name} does not offer {units} together (it gains nothing "
                "here); let these units keep, or give a --budget and let a solver plan"
            )
    answer = Answer(plan, choice, problem.energy_of(choice), None, None, problem.feasible(choice), 0.0, "given")
    limits = {quantity: float(value) for quantity, value in budget.given().items()}
    measured = _measured(evidence, choices, limits, evidence.recipe.seed)
    if _used(measured, limits) > 1.01 or not answer.feasible:
        logger.warning("the plan given is outside of the budget")
    costs, kl = problem.costs_of(choice), evidence.losses([choices])[0]
    return Planned(plan, answer, problem, costs, kl, measured.seconds, measured.bytes)


def _held_against(answer: Answer, problem: Problem, plan: Plan) -> Answer:
    """The answer with another plan in its place; no gap where the plan is outside of the problem's limits."""
    choice = problem.choice(plan)
    energy = problem.energy_of(choice)
    bound = answer.lower_bound if problem.feasible(choice) else None
    gap = None if bound is None else relative_gap(energy, bound)
    return replace(answer, plan=plan, choice=choice, energy=energy, lower_bound=bound, gap=gap)


def _losses_by_alpha(evidence: Evidence, budget: Budget) -> dict[float, float]:
    """The loss of what is solved for by how much of the pairwise part is believed: a minimiser exploits its errors, so
    its own plans are measured. Empty where the part is left out."""
    if evidence.recipe.energy == "separable":
        return {}
    most = evidence.correlation.alpha
    plans: dict[float, Choices] = {}
    for alpha in sorted({0.0, most / 2, most}):
        energy = evidence.found.energy(evidence.space, alpha)
        problem = Problem(evidence.space, energy, evidence.prices.costs(), budget)
        plans[alpha] = evidence.solve(problem).plan.choices
    losses = dict(zip(plans, evidence.losses(list(plans.values()))))
    logger.info("measured loss by alpha: %s", losses)
    return losses


def _within_measured(evidence: Evidence, energy: Energy, budget: Budget, trust: Cost | None = None) -> Planned:
    """Solve, measure a network of the answer's shape, correct the prices, and solve again until the limits are used up.

    Of the plans that were measured within the limits the one of least energy is taken; where none was, the one that
    comes nearest, with a warning.
    """
    space, prices = evidence.space, evidence.prices
    limits = {quantity: float(value) for quantity, value in budget.given().items()}
    tried: list[tuple[float, float, Answer, Problem, Measured]] = []
    for attempt in range(ATTEMPTS):
        costs = prices.costs() | ({trust.name: trust} if trust else {})
        try:
            answer, problem = solved_with_margin(evidence, Problem(space, energy, costs, budget))
        except BudgetError:
            if not tried:
                raise
            break
        measured = _measured(evidence, answer.plan.choices, limits, attempt)
        used = _used(measured, limits)
        tried.append((max(used - 1.0, 0.0), answer.energy, answer, problem, measured))
        logger.info("attempt %d: %.1f %% of the limits used, energy %.4g", attempt + 1, 100 * used, answer.energy)
        if FULL <= used <= 1.0 or not used or any(a[2].plan.choices == answer.plan.choices for a in tried[:-1]):
            break
        if measured.seconds is not None:
            prices.seen.append((dict(answer.plan.choices), measured.seconds))
        if "size" in limits:
            prices.extra_bytes += measured.bytes - problem.costs["size"].value(answer.choice)
    excess, _, answer, problem, measured = min(tried, key=lambda row: row[:2])
    if excess > 0.01:
        logger.warning("the nearest plan found uses %.0f %% of its limits as measured", 100 * (1 + excess))
    choices = answer.plan.choices
    plan = Plan(dict(choices), evidence.effects.kept(choices))
    costs_of = problem.costs_of(answer.choice)
    return Planned(plan, answer, problem, costs_of, evidence.losses([choices])[0], measured.seconds, measured.bytes)


def solved_with_margin(evidence: Evidence, problem: Problem) -> tuple[Answer, Problem]:
    """A problem's answer with `MARGIN` of the latency left free where it is measured; and the problem that was solved.

    Raises:
        BudgetError: no plan is within the budget, nor within the part of it that leaves the margin.
    """
    latency = problem.budget.given().get("latency")
    if latency is not None and isinstance(evidence.prices.table, LatencyTable):
        closer = replace(problem, budget=replace(problem.budget, latency=(1 - MARGIN) * float(latency)))
        try:
            return evidence.solve(closer), closer
        except BudgetError:
            logger.info("no plan leaves a margin of %.0f %% of the latency", 100 * MARGIN)
    return evidence.solve(problem), problem


def _measured(evidence: Evidence, choices: Choices, limits: Mapping[str, float], seed: int) -> Measured:
    """A network of the plan's shape on the runtime, where a limit depends on it (MACs are exact)."""
    if not {"latency", "size"} & set(limits):
        return Measured(None, 0)
    table = evidence.prices.table if "latency" in limits else None
    return measure_structures(evidence.task, evidence.space, {"plan": choices}, table=table, seed=seed)["plan"]


def _used(measured: Measured, limits: Mapping[str, float]) -> float:
    """The largest fraction of a limit that a measured network takes; 0 where no limit needs measuring."""
    parts = [0.0]
    if measured.seconds is not None and "latency" in limits:
        parts.append(measured.seconds / limits["latency"])
    if measured.bytes and "size" in limits:
        parts.append(measured.bytes / limits["size"])
    return max(parts)


def trust_region(space: Space, found: Sensitivities) -> Cost:
    """A cost that forbids the options that were not measured around the incumbent."""
    parts = np.split(found.measured, np.cumsum(space.sizes)[:-1])
    tables = [Factor((u,), np.where(part, 0.0, np.inf)) for u, part in enumerate(parts)]
    return Cost("trust region", tuple(tables))


def absolute(budget: Budget, originals: Mapping[str, float]) -> Budget:
    """The budget with percentages turned into numbers."""
    return Budget(**budget.resolve(originals))


def pareto(problem: Problem, quantity: str, seed: int = 0, points: int = 9) -> list[tuple[float, Choices, float]]:
    """Plans over a sweep of one limit, by the annealer: (limit, choices, energy)."""
    bound, best = problem.smallest(quantity)
    original = problem.originals[quantity]
    low = (best if np.isfinite(best) else bound) / original
    found: list[tuple[float, Choices, float]] = []
    for fraction in np.linspace(min(low * 1.05, 0.95), 0.95, points):
        limit = float(fraction * original)
        try:
            answer = solve(replace(problem, budget=Budget(**{quantity: limit})), "anneal", seed=seed, time_limit=1.0)
        except BudgetError:
            continue
        found.append((limit, dict(answer.plan.choices), answer.energy))
    return found


def _number(quantity: str, value: float) -> str:
    if quantity == "latency":
        return f"{value * 1e3:.3g} ms"
    return f"{value / 1e6:.3g} {'MB' if quantity == 'size' else 'M'}"
