"""From a student to its artifact: recovery, validation, proof and report."""

from __future__ import annotations

import copy
import logging
import shutil
from pathlib import Path
from typing import Any

from torch import nn

from coldpress import proof, steps
from coldpress.artifact import put_in_place
from coldpress.deploy import score_deployed
from coldpress.fitting import check_runs_within
from coldpress.plan import Plan, Space
from coldpress.recipe import Recipe
from coldpress.report import render
from coldpress.run import Run
from coldpress.task import Task

logger = logging.getLogger("coldpress.pipeline")

ROUNDING = 1e-9
"""Points: a whole number of images, written as a fraction, is not exact."""


def finished(
    run: Run,
    space: Space,
    student: nn.Module,
    plan: Plan,
    folder: Path,
    facts: dict[str, Any],
    details: dict[str, Any],
    command: str | None,
) -> tuple[nn.Module, dict[str, Any]]:
    """Recover a student's accuracy, prove it and put its artifact in place; the network, and metrics.json.

    Args:
        run: the original and its data, and what was asked for.
        space, student, plan: the network after surgery, and what it came of.
        folder: of the artifact.
        facts, details: entries of metrics.json and details.json that are known already.
        command: what reproduces the run.

    Raises:
        BudgetError: the network does not run within the memory that it is to; told before it is trained.
    """
    task, recipe, work = run.task, run.recipe, run.work
    check_runs_within(task, space, plan, student, recipe)
    untrained = copy.deepcopy(student)
    student, details["history"] = steps.recovered(run, space, student, plan)
    facts["seconds"] = work.seconds()
    facts["kl"] = steps.loss_on_calibration(task, student, recipe)
    facts["validation"] = _validation(task, space, plan, untrained, student, recipe)
    built = work.path("artifact")
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir()
    with work.step("prove"):
        metrics = proof.build(built, task, space, student, plan, recipe, facts, details, command)
    proof.copy_log(work.path("log.jsonl"), built)
    render(built)
    put_in_place(built, folder)
    return student, metrics


def _validation(
    task: Task, space: Space, plan: Plan, untrained: nn.Module, student: nn.Module, recipe: Recipe
) -> dict[str, Any]:
    """Scores on validation data, where there is any, as deployed; and whether the accuracy limit is kept there."""
    if task.validation is None:
        return {}
    scores: dict[str, Any] = {"metric": task.metric_name, "original": task.score(task.model, "validation")}
    scores["before_recovery"] = task.score(untrained, "validation")
    scores["compressed"] = score_deployed(task, space, plan, student, "validation", recipe.batch)
    if recipe.max_accuracy_drop is None:
        return scores
    drop = 100 * (scores["original"] - scores["compressed"])
    kept = drop <= recipe.max_accuracy_drop + ROUNDING
    if not kept:
        logger.warning(
            "%.2f points are lost on validation data, more than the %.2f allowed: raise the budget or the epochs",
            drop,
            recipe.max_accuracy_drop,
        )
    return {**scores, "drop": drop, "allowed_drop": recipe.max_accuracy_drop, "kept": kept}
