"""`coldpress compress` and `coldpress demo`: the run, and what is said at its end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from coldpress.artifact import check_output
from coldpress.commands.subject import read_task
from coldpress.commands.terminal import out, progress_bars
from coldpress.errors import ArtifactError, BudgetError, PlanError, TaskError
from coldpress.papers.presets import compress_by_preset
from coldpress.pipeline import Preview, compress, predict
from coldpress.plan import KEEP, Plan, Space
from coldpress.proof import reproduce_command
from coldpress.recipe import Recipe
from coldpress.report import formats
from coldpress.report.tables import budget, final_table
from coldpress.task import Task

DEMO: dict[str, Any] = {
    "model": "fashion_cnn",
    "weights": "pretrained",
    "data": "fashion-mini",
    "budget": ("latency=20%",),
    "epochs": 2,
    "calibration": 256,
    "refit_images": 512,
    "random_plans": 12,
    "refit_plans": 5,
    "measure_seconds": 40.0,
}


def run(recipe: Recipe, folder: Path | None, overwrite: bool, dry_run: bool, measurements: Path | None = None) -> None:
    """Carry out what a recipe asks for, or with ``dry_run`` say what would be done."""
    if not recipe.budget and recipe.sparsity is None and recipe.max_accuracy_drop is None and not recipe.choices:
        raise BudgetError(
            "nothing is asked for: give --budget (latency=25%, size=2MB, macs=50%), --max-accuracy-drop POINTS, or "
            "both; or --plan FILE, a plan to carry out"
        )
    if dry_run and recipe.preset != "curvature":
        raise TaskError(f"--dry-run predicts plans; the preset {recipe.preset} has none: leave it out")
    if not dry_run:
        if folder is None:
            raise ArtifactError("no place for the result: give --out FOLDER (or --dry-run, which writes nothing)")
        check_output(folder, overwrite)
    if measurements is not None and recipe.preset != "curvature":
        raise TaskError(f"--measurements are of plans; the preset {recipe.preset} has none: leave it out")
    task = read_task(recipe)
    if dry_run:
        with progress_bars() as tell:
            show_preview(predict(task, recipe.limits(), measurements=measurements, progress=tell, **_settings(recipe)))
        return
    assert folder is not None
    carry_out(task, recipe, folder, overwrite, measurements)


def carry_out(task: Task, recipe: Recipe, folder: Path, overwrite: bool, measurements: Path | None = None) -> None:
    """Compress, with progress bars, and show the result."""
    shared: dict[str, Any] = {"overwrite": overwrite, "command": reproduce_command(), **_settings(recipe)}
    with progress_bars() as tell:
        if recipe.preset == "curvature":
            found = compress(task, recipe.limits(), out=folder, progress=tell, measurements=measurements, **shared)
            metrics, changed = found.metrics, f"Plan: {describe_plan(found.space, found.plan)}"
        else:
            budget = recipe.limits() if recipe.budget else None
            metrics = compress_by_preset(task, folder, budget=budget, progress=tell, **shared).metrics
            changed = describe_preset(metrics["preset"])
    show_result(metrics, changed, folder)


def describe_preset(used: Mapping[str, Any]) -> str:
    """What QIANets' steps took: ``qianets: sparsity 0.500, no factors``."""
    rank = "no factors" if used["rank"] is None else f"factors of rank {used['rank']}"
    rank = f"ranks by {used['rank']}" if isinstance(used["rank"], str) else rank
    if used.get("units") == "weights":
        rank = "of single weights, held at zero: zeros, not smaller"
    return f"{used['name']}: sparsity {used['sparsity']:.3f}, {rank}"


def _settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe as compress() takes it, which has the budget as an object; the task holds the ignored layers."""
    return {name: value for name, value in asdict(recipe).items() if name not in ("budget", "ignored_layers")}


def read_choices(path: Path) -> tuple[str, ...]:
    """The choices of a plan's file, as a recipe holds them. Raises PlanError when it is none."""
    try:
        plan = Plan.from_json(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot read the plan {path}: {error}") from error
    return tuple(f"{unit}={label}" for unit, label in plan.choices.items())


def demo(folder: Path, seed: int) -> None:
    """The bundled model on the bundled data."""
    out.print(
        "A small residual network for Fashion-MNIST comes along with coldpress, with a few thousand of its images.\n"
        "Its channels, ranks, depth and bits are now decided together, so that one run on one thread takes at most "
        f"{DEMO['budget'][0].partition('=')[2]} of the time."
    )
    if folder.exists() and not _is_demo(folder):
        raise ArtifactError(f"{folder} holds something else than a demo: choose another --out")
    run(Recipe(**DEMO, seed=seed), folder, overwrite=True, dry_run=False)


def _is_demo(folder: Path) -> bool:
    """Whether a folder holds an earlier demo, which may be replaced without asking."""
    try:
        recipe = Recipe.read(folder / "recipe.yaml")
    except TaskError:
        return False
    return (recipe.model, recipe.weights, recipe.data) == (DEMO["model"], DEMO["weights"], DEMO["data"])


def show_result(metrics: Mapping[str, Any], changed: str, folder: Path | None) -> None:
    """The table before / after, what was ``changed`` in words, and the lines that matter."""
    refused = _refused(_details(folder).get("refused") or {})
    out.print()
    out.print(final_table(metrics))
    out.print(changed)
    for words, kept in budget(metrics):
        out.print(words, style="" if kept else "yellow", soft_wrap=True, highlight=False)
    for line in (_promise(metrics), _validation(metrics), _reported(metrics), refused):
        if line:
            out.print(escape(line), soft_wrap=True)
    if folder is not None:
        out.print(f"Deploy {folder / 'model.onnx'}; read {folder / 'report.html'}", soft_wrap=True, highlight=False)


def describe_plan(space: Space, plan: Plan) -> str:
    """How many units of each kind were changed: ``width 7 of 7, int8 5 of 9``."""
    have = Counter(unit.kind for unit in space.units)
    took = Counter(unit.kind for unit in space.units if plan.choices.get(unit.name, KEEP) != KEEP)
    return ", ".join(f"{kind} {took[kind]} of {count}" for kind, count in have.items()) + " changed"


def show_preview(preview: Preview) -> None:
    """What the plan would cost and lose, and what it takes of every unit."""
    predicted, solver = preview.facts["predicted"], preview.facts["solver"]
    table = Table(title="Predicted; nothing was changed", title_style="dim")
    for name in ("", "original", "plan", "change"):
        table.add_column(name, justify="right" if name else "left")
    seconds = preview.original.get("latency")
    rows = (
        ("Latency", None if seconds is None else seconds * 1e3, predicted["latency_ms"], formats.milliseconds),
        ("Size", preview.original["size"], predicted["size"], formats.size),
        ("MACs", preview.original["macs"], predicted["macs"], formats.scaled),
    )
    for label, before, after, shown in rows:
        if before is not None and after is not None:
            table.add_row(label, shown(before), shown(after), f"{after / before:.1%} of the original")
    table.add_row("KL to the original", "0", formats.three(predicted["kl"]), "before the re-fit and any training")
    out.print(table)
    choices = Table(title="Plan", title_style="dim")
    for name in ("unit", "kind", "choice"):
        choices.add_column(name)
    for unit in preview.space.units:
        choice = preview.plan.choices.get(unit.name, KEEP)
        if choice != KEEP:
            choices.add_row(escape(unit.target), unit.kind, escape(choice))
    out.print(choices)
    out.print(f"Plan: {describe_plan(preview.space, preview.plan)}")
    out.print(_solved(solver), soft_wrap=True)
    if preview.spearman is not None:
        out.print(f"Rank correlation of predicted and measured loss over random plans: {preview.spearman:.3f}")
    out.print(escape(_refused(preview.facts["refused"])), soft_wrap=True)


def _solved(solver: Mapping[str, Any]) -> str:
    gap = solver.get("gap")
    proven = "no bound" if gap is None else f"within {formats.percent(gap, 2)} of the best, proven"
    return f"Solver {solver['name']}: {proven}, {solver['seconds']:.1f} s, budget {solver['budget']}"


def _promise(metrics: Mapping[str, Any]) -> str:
    """The latency that was predicted, beside the measured one."""
    times = [(metrics[side].get("latency_ms") or {}).get("median") for side in ("original", "compressed")]
    predicted = metrics["predicted"].get("latency_ms")
    if None in times or not times[0] or not predicted:
        return ""
    shares = [formats.percent(time / times[0]) for time in (predicted, times[1])]
    return f"Of the original's latency, both timed in turns, {shares[0]} were predicted and {shares[1]} measured"


def _validation(metrics: Mapping[str, Any]) -> str:
    found = metrics.get("validation") or {}
    if not found:
        return ""
    metric = found.get("metric", "accuracy")
    steps = {"original": "original", "before_recovery": "re-fitted", "compressed": "at the end"}
    scores = [f"{words} {formats.score(found[name], metric)}" for name, words in steps.items()]
    line = f"Validation {metric.replace('_', '-')}: {', '.join(scores)}"
    if "kept" in found:
        kept = "kept" if found["kept"] else "NOT kept"
        line += f"; the limit of {found['allowed_drop']:g} points is {kept}"
    return line


def _reported(metrics: Mapping[str, Any]) -> str:
    split = (metrics.get("comparison") or {}).get("split")
    return f"Accuracies in the table are on {split} data" if split and split != "test" else ""


def _refused(refused: Mapping[str, str]) -> str:
    """How many options were refused, with an example."""
    if not refused:
        return ""
    slower = {name: why for name, why in refused.items() if why.startswith("measures")}
    name, why = next(iter((slower or refused).items()))
    count = f"{len(refused)} refused" + (f", {len(slower)} of them because they measure slower" if slower else "")
    return f"Options: {count} (such as {name}: {why})"


def _details(folder: Path | None) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "details.json").read_text())) if folder is not None else {}
    except (OSError, ValueError):
        return {}
