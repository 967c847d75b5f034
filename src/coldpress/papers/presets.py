"""compress() by the steps of QIANets, corrected or to the letter, as far as an artifact: `--preset`."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldpress import steps
from coldpress.artifact import check_output
from coldpress.budget import Budget
from coldpress.cost.profiles import HOST
from coldpress.cost.table import LatencyTable
from coldpress.deploy import time_files
from coldpress.errors import BudgetError, TaskError
from coldpress.evidence import Progress
from coldpress.finish import finished
from coldpress.keys import run_key
from coldpress.papers.qianets_steps import as_published, attended_blocks, corrected, zeroed
from coldpress.plan import Plan, Space
from coldpress.recipe import Recipe
from coldpress.recovery import check_attention, check_reached
from coldpress.recovery.parallel import check_alone
from coldpress.run import Run
from coldpress.runtime.onnx import export
from coldpress.space.layers import count_macs
from coldpress.space.rank_rules import named_rule
from coldpress.surgery.structure import describe_changes
from coldpress.task import Task
from coldpress.workspace import Workspace

logger = logging.getLogger("coldpress.papers")

HALVINGS, MOST = 7, 0.95
PLANNED = (
    *("objective", "solver", "energy", "units", "int8", "hint_weight", "random_plans", "refit_plans", "rounds"),
    *("time_limit", "measure_seconds"),
)
"""Settings of plans, and of what is learned from them, that the presets have no use for."""
NOTHING = Space((), ())
Costs = dict[str, float]


@dataclass(frozen=True)
class PresetResult:
    """What compress_by_preset() gives back.

    Attributes:
        model: the network after recovery.
        plan: its structure; it has no choices of units.
        metrics: the contents of metrics.json; ``preset`` holds the sparsity and the rank.
        folder: the artifact.
    """

    model: nn.Module
    plan: Plan
    metrics: dict[str, Any]
    folder: Path


def compress_by_preset(
    task: Task,
    out: str | Path,
    preset: str,
    budget: Budget | None = None,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    command: str | None = None,
    **recipe: Any,
) -> PresetResult:
    """Compress by QIANets' steps, recover by distillation, and prove the result like any other.

    "qianets" removes the same share of every group's channels by softmax retention, factorises with one rank where that
    is smaller and faster, and puts channel attention behind blocks. "qianets-legacy" is what the public code does to
    the weights: a random mask with entanglement, truncated SVD, a factorisation, all dense again.

    Args:
        task: model, data, metric.
        out: folder of the artifact.
        preset: "qianets" or "qianets-legacy".
        budget: for "qianets", in place of ``sparsity``: the least sparsity that keeps it, measured, by bisection.
        overwrite: replace ``out`` where it exists.
        progress: called with (step, done, in all).
        command: what reproduces the run, for the report.
        **recipe: settings of `coldpress.recipe.Recipe`; `coldpress.recipe.PRESET_ONLY` are of these presets. Those of
            plans are refused.

    Raises:
        TaskError: what is asked for does not fit together.
        BudgetError: no sparsity keeps the budget.

    Example:
        >>> compress_by_preset(task, "run", "qianets", Budget(size="60%"), epochs=2)  # doctest: +SKIP
    """
    given = _recipe(task, preset, budget, recipe)
    folder = Path(out)
    check_output(folder, overwrite)
    work = Workspace(folder, run_key(task, given))
    run = Run(task, given, work, progress)

    def compute() -> Mapping[str, Tensor]:
        torch.manual_seed(given.seed)
        student, used = _carried_out(task, given, progress)
        plan = Plan({}, {}, describe_changes(task.model, student))
        work.write("carried-out.json", plan.to_json())
        work.write("preset.json", json.dumps(used))
        return {name: tensor.clone() for name, tensor in student.state_dict().items()}

    tensors = work.tensors("student", compute)
    plan = Plan.from_json(work.path("carried-out.json").read_text())
    facts: dict[str, Any] = {
        "predicted": {},
        "preset": {"name": preset, **json.loads(work.path("preset.json").read_text())},
    }
    student = steps.rebuilt(task, plan, tensors)
    model, metrics = finished(run, NOTHING, student, plan, folder, facts, {}, command)
    work.close()
    return PresetResult(model, plan, metrics, folder)


def _recipe(task: Task, preset: str, budget: Budget | None, settings: Mapping[str, Any]) -> Recipe:
    own = {"preset": preset, "ignored_layers": tuple(task.ignored_layers), **settings}
    if budget is not None:
        own["budget"] = [f"{name}={value}" for name, value in budget.given().items()]
    given = Recipe().changed(own)
    if preset == "curvature":
        raise TaskError("the preset curvature is compress() itself: call that")
    idle = given.given((*PLANNED, *(("stages", "eca_kernel", "retention_units") if preset == "qianets-legacy" else ())))
    if idle:
        raise TaskError(f"{preset} has no use for {', '.join(idle)}: leave that out")
    if given.choices or given.max_accuracy_drop is not None or given.memory is not None:
        raise TaskError(f"{preset} takes a sparsity or a budget: no plan, no accuracy limit, no memory limit")
    if preset == "qianets-legacy" and (given.budget or given.sparsity is None or given.rank is None):
        raise TaskError(
            "qianets-legacy gives dense layers back, so that no budget on size or time can be kept: give --sparsity "
            "and --rank (published: 0.1 to 0.9, and 5 to 50)"
        )
    if preset == "qianets-legacy" and isinstance(given.rank, str):
        raise TaskError(f"rank is {given.rank!r}; qianets-legacy has one for all layers: give a whole number")
    if preset == "qianets" and bool(given.budget) == (given.sparsity is not None):
        raise TaskError("qianets takes either a --budget or a --sparsity, the share of each group's channels that goes")
    if given.retention_units == "weights" and (given.budget or given.rank is not None):
        raise TaskError(
            "single weights become zeros, which takes no byte and no time away and which factors would undo: give "
            "--sparsity, no budget and no rank"
        )
    if given.rounds_weights() or given.device != HOST:
        raise TaskError(f"{preset} works on this machine and in floats: no device profile, no bits")
    steps.training_settings(given)
    if given.attention_weight > 0:
        check_attention(task.model, task.example_inputs)
    if preset == "qianets" and given.epochs and task.train is not None:
        check_reached(task.model, task.example_inputs)
    check_alone("compress")
    return given


def _carried_out(task: Task, recipe: Recipe, tell: Progress | None) -> tuple[nn.Module, dict[str, Any]]:
    """The network after the steps, and the sparsity and rank of them."""
    if recipe.preset == "qianets-legacy":
        assert recipe.sparsity is not None
        assert isinstance(recipe.rank, int)
        student = as_published(
            task.model, recipe.sparsity, recipe.rank, recipe.entanglement,
            ignored=recipe.ignored_layers, seed=recipe.seed,
        )  # fmt: skip
        return student, {"sparsity": recipe.sparsity, "rank": recipe.rank}
    inputs, _ = task.calibration(recipe.refit_images)
    table = LatencyTable(threads=recipe.threads, batch=recipe.batch)
    attention = recipe.eca_kernel != 0 and bool(attended_blocks(task.model, recipe.ignored_layers))
    rank = named_rule(recipe.rank) if isinstance(recipe.rank, str) else recipe.rank

    if recipe.retention_units == "weights":
        assert recipe.sparsity is not None
        student = zeroed(
            task.model, task.example_inputs, inputs, recipe.sparsity,
            kernel=recipe.eca_kernel or None, attention=attention, entanglement=recipe.entanglement,
            stages=recipe.stages, ignored=recipe.ignored_layers, seed=recipe.seed,
        )  # fmt: skip
        return student, {"sparsity": recipe.sparsity, "rank": None, "units": "weights"}

    def make(sparsity: float) -> nn.Module:
        return corrected(
            task.model, task.example_inputs, inputs, sparsity, rank,
            kernel=recipe.eca_kernel or None, attention=attention, entanglement=recipe.entanglement,
            stages=recipe.stages, ignored=recipe.ignored_layers, table=table, seed=recipe.seed,
        )  # fmt: skip

    if recipe.sparsity is not None:
        return make(recipe.sparsity), {"sparsity": recipe.sparsity, "rank": recipe.rank}
    student, sparsity = _within(task, recipe, make, tell)
    return student, {"sparsity": sparsity, "rank": recipe.rank}


def _within(
    task: Task, recipe: Recipe, make: Callable[[float], nn.Module], tell: Progress | None
) -> tuple[nn.Module, float]:
    """The network of the least sparsity that keeps the budget, and the sparsity, by bisection."""
    limits: Costs | None = None
    low, high, best = 0.0, MOST, None
    for step in range(HALVINGS):
        sparsity = (0.0, MOST)[step] if step < 2 else (low + high) / 2
        student = make(sparsity)
        before, after = _costs(task, student, recipe)
        limits = limits or {name: float(value) for name, value in recipe.limits().resolve(before).items()}
        over = [name for name, limit in limits.items() if after[name] > limit]
        logger.info("sparsity %.3f: %s", sparsity, f"more than allowed: {', '.join(over)}" if over else "kept")
        if not over:
            high, best = sparsity, student
            if step == 0:  # the factors alone do it
                break
        elif step == 1:
            raise BudgetError(
                f"at a sparsity of {MOST} the network still takes more than allowed: {', '.join(over)}; "
                "allow more, or give a --rank"
            )
        else:
            low = sparsity
        if tell:
            tell("bisection", step + 1, HALVINGS)
    assert best is not None
    return best, high


def _costs(task: Task, student: nn.Module, recipe: Recipe) -> tuple[Costs, Costs]:
    """What the original and the student take: "macs", "size" (bytes), and "latency" (seconds) where it is limited."""
    found: list[Costs] = []
    with tempfile.TemporaryDirectory(prefix="coldpress-") as folder:
        files: dict[str, Path] = {}
        for name, model in (("original", task.model), ("compressed", student)):
            files[name] = export(model, task.example_inputs, Path(folder) / f"{name}.onnx")
            macs = float(count_macs(model, task.example_inputs))
            found.append({"macs": macs, "size": float(files[name].stat().st_size)})
        if "latency" in recipe.limits().given():
            times = time_files(files, task.example_inputs, threads=recipe.threads, batch=recipe.batch, seed=recipe.seed)
            for costs, name in zip(found, files):
                costs["latency"] = times[name].median / 1e3
    before, after = found
    return before, after
