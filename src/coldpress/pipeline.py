"""compress(): the whole way, from a task to an artifact, each step one call."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from coldpress import steps
from coldpress.artifact import check_output
from coldpress.budget import Budget
from coldpress.deciding import decide
from coldpress.errors import BudgetError, TaskError
from coldpress.evidence import Progress
from coldpress.facts import correlated
from coldpress.finish import finished
from coldpress.fitting import check_memory
from coldpress.keys import measurements_key, run_key
from coldpress.plan import Plan, Space
from coldpress.problem import Problem
from coldpress.recipe import PRESET_ONLY, ROUND_ONLY, Recipe
from coldpress.recovery import check_attention, check_reached
from coldpress.recovery.parallel import check_alone
from coldpress.run import Run
from coldpress.solvers import check_solver
from coldpress.task import Task
from coldpress.workspace import Workspace


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
        BudgetError: no plan can meet the budget (raised before time is spent), or the network that was planned does not
            run within ``memory`` (raised before it is trained; the same call with more memory goes on from there).
        TaskError, SpaceError, ExportError, ArtifactError: the model, the data or the folder cannot be used.

    Example:
        >>> result = compress(task, Budget(latency="25%"), max_accuracy_drop=1.0, out="run")  # doctest: +SKIP
    """
    given = _recipe(task, budget, recipe)
    with tempfile.TemporaryDirectory(prefix="coldpress-") as nowhere:
        folder = Path(out) if out is not None else Path(nowhere) / "run"
        check_output(folder, overwrite)
        run = _begun(task, given, folder, measurements, progress)
        result = _carry_out(run, folder, command)
        run.work.close()
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
        run = _begun(task, given, Path(nowhere) / "run", measurements, progress)
        decided = decide(run)
        seconds = run.work.seconds()
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


def _begun(task: Task, recipe: Recipe, folder: Path, measurements: str | Path | None, tell: Progress | None) -> Run:
    check_memory(recipe)
    kept = None if measurements is None else Path(measurements) / measurements_key(task, recipe)
    return Run(task, recipe, Workspace(folder, run_key(task, recipe), kept), tell)


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
    if given.preset != "curvature" or given.given(PRESET_ONLY):
        raise TaskError(
            f"{', '.join(PRESET_ONLY)} are of QIANets' steps: give --preset qianets, or call coldpress.papers.presets."
            "compress_by_preset"
        )
    check_alone("compress")
    # What only a late step would refuse is refused before time is spent.
    steps.training_settings(given)
    if given.attention_weight > 0:
        check_attention(task.model, task.example_inputs)
    if given.epochs and task.train is not None:
        check_reached(task.model, task.example_inputs)
    if given.energy == "fisher" and (given.units != ("width",) or not given.budget or given.choices):
        raise TaskError(
            f"energy is 'fisher', for single channels in a budget; units are {','.join(given.units)}, the "
            f"budget is {', '.join(given.budget) or 'not given'}: give units width alone, a budget, and no choices"
        )
    check_solver(given.solver)
    return given


def _carry_out(run: Run, folder: Path, command: str | None) -> Result:
    decided = decide(run)
    space, effects, moments, facts = decided.space, decided.effects, decided.moments, decided.facts
    found, correlation = decided.found, decided.correlation
    after = steps.after_refit(run, space, effects, moments, found, correlation)
    student, plan = steps.carried_out(run, space, decided.plan, moments)
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
    student, metrics = finished(run, space, student, plan, folder, facts, details, command)
    return Result(student, plan, metrics, folder, space, decided.problem)
