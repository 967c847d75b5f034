"""From a task to the plan that keeps its limits: space, prices, energy, solver, each measured once."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from coldpress import steps
from coldpress.budget import Budget
from coldpress.deploy import score_deployed
from coldpress.energy.correlation import Correlation
from coldpress.energy.curvature import Sensitivities
from coldpress.errors import BudgetError
from coldpress.evidence import Evidence
from coldpress.facts import planned_facts
from coldpress.finish import ROUNDING
from coldpress.plan import Plan, Space
from coldpress.planning import Planned, absolute, check_reachable, find_plan, given_plan
from coldpress.pricing import Prices
from coldpress.problem import Problem
from coldpress.run import Run
from coldpress.single_channels import labels_of, with_channels
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import Moments

logger = logging.getLogger("coldpress.pipeline")

BISECTIONS = 6


@dataclass(frozen=True)
class Decided:
    """A plan and everything that was measured for it."""

    space: Space
    original: dict[str, float]
    effects: Effects
    moments: dict[str, Moments]
    found: Sensitivities
    correlation: Correlation
    plan: Plan
    problem: Problem
    facts: dict[str, Any]


def decide(run: Run) -> Decided:
    """The plan of a run, steps that are kept taken from where they lie.

    Raises:
        BudgetError: no plan can meet the budget, or none that was tried keeps the accuracy limit.
    """
    task, recipe, work = run.task, run.recipe, run.work
    torch.manual_seed(recipe.seed)
    space = steps.offered(run)
    prices, original = steps.priced(run, space)
    originals = _originals(prices, original.seconds, original.bytes)
    limits = loadable(absolute(recipe.limits(), originals), recipe.memory_bytes(), originals["size"])
    check_reachable(space, prices, limits)
    work.reach({quantity: float(limit) for quantity, limit in limits.given().items()})

    effects, moments = steps.effects_of(run, space)
    channels: dict[str, Any] | None = None
    if recipe.energy == "fisher":
        channels = steps.single_channels(run, space, prices, limits, moments)
        space, effects = with_channels(space, effects, channels["kept"])
        prices = replace(prices, space=space)
    found, correlation = steps.measured_energy(run, space, effects)

    evidence = Evidence(task, space, effects, found, correlation, prices, recipe)

    def plan_within(budget: Budget, rounds: int) -> Planned:
        return find_plan(evidence, budget, rounds, run.tell)

    def find() -> dict[str, Any]:
        if channels is not None:
            planned = given_plan(evidence, labels_of(space, channels["kept"]), limits)
            planned.answer = replace(planned.answer, solver="select")
        elif recipe.choices:
            planned = given_plan(evidence, recipe.chosen(), limits)
        elif recipe.budget:
            planned = plan_within(limits, recipe.rounds)
        else:
            planned = _keep_accuracy(run, space, prices, moments, limits, plan_within)
        work.write("problem.json", planned.problem.to_json())
        facts = planned_facts(planned, prices, recipe)
        return facts if channels is None else facts | {"single_channels": channels["facts"]}

    facts = work.json("plan", find)
    plan = Plan.from_json(facts.pop("plan_json"))
    problem = Problem.from_json(work.path("problem.json").read_text())
    return Decided(space, originals, effects, moments, found, correlation, plan, problem, facts)


def _originals(prices: Prices, seconds: float | None, size: int) -> dict[str, float]:
    costs = {name: cost.value([0] * len(prices.space.units)) for name, cost in prices.costs().items()}
    return costs | {"size": float(size)} | ({"latency": seconds} if seconds is not None else {})


def loadable(limits: Budget, memory: int | None, original: float) -> Budget:
    """Limits under which the file itself fits into the memory that it is to run in."""
    size = min(float(limits.size or original), float(memory or original))
    return limits if size >= float(limits.size or original) else replace(limits, size=size)


def _keep_accuracy(
    run: Run,
    space: Space,
    prices: Prices,
    moments: Any,
    limits: Budget,
    plan_within: Callable[[Budget, int], Planned],
) -> Planned:
    """The cheapest plan, by bisection, whose network loses no more than allowed on validation data, before training."""
    task, recipe, tell = run.task, run.recipe, run.telling("bisection")
    assert recipe.max_accuracy_drop is not None
    before = task.score(task.model, "validation")
    quantity = recipe.objective
    costs = prices.costs()
    original = costs[quantity].value([0] * len(space.units))
    low, high, best = 0.0, 1.0, None
    for step in range(BISECTIONS):
        fraction = 0.5 if step == 0 else (low + high) / 2
        try:
            limit = min(fraction * original, float(limits.given().get(quantity, math.inf)))
            planned = plan_within(replace(limits, **{quantity: limit}), 0)
        except BudgetError:
            low = fraction
            continue
        student, _ = steps.surgery(task, space, planned.plan, moments, recipe)
        drop = 100 * (before - score_deployed(task, space, planned.plan, student, "validation", recipe.batch))
        logger.info("%s at %.0f %%: %.2f points lost on validation", quantity, 100 * fraction, drop)
        if drop <= recipe.max_accuracy_drop + ROUNDING:
            high, best = fraction, planned
        else:
            low = fraction
        if tell:
            tell(step + 1, BISECTIONS)
    if best is None:
        raise BudgetError(
            f"no plan was found that loses at most {recipe.max_accuracy_drop} points: allow a larger "
            f"--max-accuracy-drop, or give a --budget and --epochs"
        )
    return best
