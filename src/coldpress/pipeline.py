"""compress(): the whole way, from a task to an artifact, each step one call."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coldpress import steps
from coldpress.artifact import check_output
from coldpress.budget import Budget
from coldpress.deploy import score_deployed
from coldpress.energy.correlation import Correlation
from coldpress.energy.curvature import Sensitivities
from coldpress.errors import BudgetError, TaskError
from coldpress.evidence import Evidence, Progress
from coldpress.facts import correlated, planned_facts
from coldpress.finish import ROUNDING, finished
from coldpress.keys import measurements_key, run_key
from coldpress.plan import Plan, Space
from coldpress.planning import Planned, absolute, check_reachable, find_plan, given_plan
from coldpress.pricing import Prices
from coldpress.problem import Problem
from coldpress.recipe import ROUND_ONLY, Recipe
from coldpress.recovery import check_attention
from coldpress.recovery.parallel import check_alone
from coldpress.single_channels import labels_of, with_channels
from coldpress.solvers import check_solver
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import Moments
from coldpress.task import Task
from coldpress.workspace import Workspace

logger = logging.getLogger("coldpress.pipeline")

BISECTIONS = 6


@dataclass(frozen=True)
class Result:
    """What compress() gives back.

    Attributes:
        model: the compressed float network.
        plan: the chosen options, the channels kept and the structure.
        metrics: the contents of metrics.json.
        folder: the artifact, None where none was asked for.
        space: all units and options that were on offer.
        problem: what the solver was last given; `coldpress.solve` takes it, with any solver.
    """

    model: nn.Module
    plan: Plan
    metrics: dict[str, Any]
    folder: Path | None
    space: Space
    problem: Problem


def compress(
    task: Task,
    budget: Budget | None = None,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    measurements: str | Path | None = None,
    progress: Progress | None = None,
    command: str | None = None,
    **recipe: Any,
) -> Result:
    """Make the task's model smaller and faster within a budget, recover its accuracy and prove the result.

    A run that is stopped goes on from its last finished step when it is called again with the same arguments.

    Args:
        task: model, data, metric.
        budget: limits on latency, size and MACs. Without one, ``max_accuracy_drop`` decides.
        out: folder of the artifact; None keeps nothing on disk.
        overwrite: replace ``out`` where it exists.
        measurements: a folder that keeps measured times and sensitivities, so that runs of the same model, data and
            machine with another budget or another recovery take them up; None measures anew.
        progress: called with (step, done, in all).
        command: what reproduces the run, for the report.
        **recipe: settings of `coldpress.recipe.Recipe`: ``max_accuracy_drop`` (points), ``objective``, ``solver``,
            ``epochs``, ``seed``, ``units`` and so on.

    Returns:
        The compressed model, its plan and its metrics.

    Raises:
        BudgetError: no plan can meet the budget (raised before time is spent).
        TaskError, SpaceError, ExportError, ArtifactError: the model, the data or the folder cannot be used.

    Example:
        >>> result = compress(task, Budget(latency="25%"), max_accuracy_drop=1.0, out="run")  # doctest: +SKIP
    """
    given = _recipe(task, budget, recipe)
    with tempfile.TemporaryDirectory(prefix="coldpress-") as nowhere:
        folder = Path(out) if out is not None else Path(nowhere) / "run"
        check_output(folder, overwrite)
        work = _workspace(task, given, folder, measurements)
        result = _run(task, given, work, folder, progress, command)
        work.close()
    return result if out is not None else replace(result, folder=None)


@dataclass(frozen=True)
class Preview:
    """What predict() gives back.

    Attributes:
        plan: the chosen options.
        space: all units and options that were on offer.
        original: costs of the network as it is: "size" (bytes), "macs", and "latency" (seconds) where it was measured.
        facts: ``predicted`` (costs and KL of the plan), ``solver``, ``layers``, ``refused`` and so on.
        spearman: the energy's rank correlation with measured losses of random plans.
        spearman_separable: the same of the energy without its terms between units.
        problem: what the solver was last given.
        seconds: that each step took.
        energy_cost: seconds that the options' sensitivities took, of as many runs of the whole network on the same
            images as there are options.
    """

    plan: Plan
    space: Space
    original: dict[str, float]
    facts: dict[str, Any]
    spearman: float | None
    spearman_separable: float | None
    problem: Problem
    seconds: dict[str, float]
    energy_cost: float


def predict(
    task: Task,
    budget: Budget | None = None,
    *,
    measurements: str | Path | None = None,
    progress: Progress | None = None,
    **recipe: Any,
) -> Preview:
    """Find the plan that compress() would carry out, with its predicted costs and loss.

    Nothing is kept on disk but what goes to ``measurements``.

    Args and errors are those of `compress`.

    Example:
        >>> predict(task, Budget(macs="50%")).facts["predicted"]["kl"]  # doctest: +SKIP
    """
    given = _recipe(task, budget, recipe)
    with tempfile.TemporaryDirectory(prefix="coldpress-") as nowhere:
        work = _workspace(task, given, Path(nowhere) / "run", measurements)
        decided = _decide(task, given, work, progress)
        seconds = work.seconds()
    space, found = decided.space, decided.found
    facts = {**decided.facts, "refused": {**space.refused, **decided.facts["refused"]}}
    return Preview(
        decided.plan,
        space,
        decided.original,
        facts,
        decided.correlation.spearman,
        decided.correlation.spearman_separable,
        decided.problem,
        seconds,
        found.seconds / (sum(space.sizes) * found.full_pass),
    )


def _workspace(task: Task, recipe: Recipe, folder: Path, measurements: str | Path | None) -> Workspace:
    kept = None if measurements is None else Path(measurements) / measurements_key(task, recipe)
    return Workspace(folder, run_key(task, recipe), kept)


def _recipe(task: Task, budget: Budget | None, settings: dict[str, Any]) -> Recipe:
    if set(settings.get("ignored_layers", task.ignored_layers)) != set(task.ignored_layers):
        raise TaskError("ignored_layers belong to the task: give Task(..., ignored_layers=...)")
    given = Recipe(ignored_layers=tuple(task.ignored_layers)).changed(settings)
    if budget is not None:
        given = given.changed({"budget": [f"{name}={value}" for name, value in budget.given().items()]})
    if not given.budget and given.max_accuracy_drop is None and not given.choices:
        raise BudgetError("give a budget (latency, size or macs), or max_accuracy_drop, or both; or a plan's choices")
    if given.rounds_weights():
        raise TaskError(f"{', '.join(ROUND_ONLY)} are of coldpress round (round_to_artifact); compress has int8")
    if given.preset != "curvature" or given.sparsity is not None or given.rank is not None:
        raise TaskError(
            "sparsity and rank are of QIANets' steps: give --preset qianets, or call coldpress.papers.presets."
            "compress_by_preset"
        )
    check_alone("compress")
    # What only a late step would refuse is refused before time is spent.
    steps.training_settings(given)
    if given.attention_weight > 0:
        check_attention(task.model, task.example_inputs)
    if given.energy == "fisher" and (given.units != ("width",) or not given.budget or given.choices):
        raise TaskError(
            f"energy is 'fisher', for single channels in a budget; units are {','.join(given.units)}, the "
            f"budget is {', '.join(given.budget) or 'not given'}: give units width alone, a budget, and no choices"
        )
    check_solver(given.solver)
    return given


@dataclass(frozen=True)
class _Decided:
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


def _decide(task: Task, recipe: Recipe, work: Workspace, tell: Progress | None) -> _Decided:
    torch.manual_seed(recipe.seed)
    space = steps.offered(task, recipe, work)
    prices, original = steps.priced(task, space, recipe, work, tell)
    originals = _originals(prices, original.seconds, original.bytes)
    limits = absolute(recipe.limits(), originals)
    check_reachable(space, prices, limits)

    effects, moments = steps.effects_of(task, space, recipe, work, tell)
    channels: dict[str, Any] | None = None
    if recipe.energy == "fisher":
        channels = steps.single_channels(task, space, prices, limits, moments, recipe, work, tell)
        space, effects = with_channels(space, effects, channels["kept"])
        prices = replace(prices, space=space)
    found, correlation = steps.measured_energy(task, space, effects, recipe, work, tell)

    evidence = Evidence(task, space, effects, found, correlation, prices, recipe)

    def plan_within(budget: Budget, rounds: int) -> Planned:
        return find_plan(evidence, budget, rounds, tell)

    def decide() -> dict[str, Any]:
        if channels is not None:
            planned = given_plan(evidence, labels_of(space, channels["kept"]), limits)
            planned.answer = replace(planned.answer, solver="select")
        elif recipe.choices:
            planned = given_plan(evidence, recipe.chosen(), limits)
        elif recipe.budget:
            planned = plan_within(limits, recipe.rounds)
        else:
            planned = _keep_accuracy(task, space, recipe, prices, moments, plan_within, tell)
        work.write("problem.json", planned.problem.to_json())
        facts = planned_facts(planned, prices, recipe)
        return facts if channels is None else facts | {"single_channels": channels["facts"]}

    facts = work.json("plan", decide)
    plan = Plan.from_json(facts.pop("plan_json"))
    problem = Problem.from_json(work.path("problem.json").read_text())
    return _Decided(space, originals, effects, moments, found, correlation, plan, problem, facts)


def _run(
    task: Task, recipe: Recipe, work: Workspace, folder: Path, tell: Progress | None, command: str | None
) -> Result:
    decided = _decide(task, recipe, work, tell)
    space, effects, moments, facts = decided.space, decided.effects, decided.moments, decided.facts
    found, correlation = decided.found, decided.correlation
    after = steps.after_refit(task, space, effects, moments, found, correlation, recipe, work, tell)
    student, plan = steps.carried_out(task, space, decided.plan, moments, recipe, work, tell)
    details: dict[str, Any] = {
        "layers": facts.pop("layers"),
        "pareto": facts.pop("pareto"),
        "trace": facts.pop("trace"),
        "refused": {**space.refused, **facts.pop("refused")},
        "correlation": {
            **correlated(correlation),
            "predicted_refit": after.predicted,
            "measured_refit": after.measured,
            "spearman_refit": after.spearman,
        },
        "planning": {"seconds": found.seconds, "full_pass": found.full_pass, "runs": found.runs},
    }
    student, metrics = finished(task, space, student, plan, recipe, work, folder, facts, details, tell, command)
    return Result(student, plan, metrics, folder, space, decided.problem)


def _originals(prices: Prices, seconds: float | None, size: int) -> dict[str, float]:
    costs = {name: cost.value([0] * len(prices.space.units)) for name, cost in prices.costs().items()}
    return costs | {"size": float(size)} | ({"latency": seconds} if seconds is not None else {})


def _keep_accuracy(
    task: Task,
    space: Space,
    recipe: Recipe,
    prices: Prices,
    moments: Any,
    plan_within: Callable[[Budget, int], Planned],
    tell: Progress | None,
) -> Planned:
    """The cheapest plan, by bisection, whose network loses no more than allowed on validation data, before training."""
    assert recipe.max_accuracy_drop is not None
    before = task.score(task.model, "validation")
    quantity = recipe.objective
    costs = prices.costs()
    original = costs[quantity].value([0] * len(space.units))
    low, high, best = 0.0, 1.0, None
    for step in range(BISECTIONS):
        fraction = 0.5 if step == 0 else (low + high) / 2
        try:
            planned = plan_within(Budget(**{quantity: fraction * original}), 0)
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
            tell("bisection", step + 1, BISECTIONS)
    if best is None:
        raise BudgetError(
            f"no plan was found that loses at most {recipe.max_accuracy_drop} points: allow a larger "
            f"--max-accuracy-drop, or give a --budget and --epochs"
        )
    return best
