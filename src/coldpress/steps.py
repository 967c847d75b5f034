"""The steps of a run that can be stopped and taken up: each is computed once and kept in the workspace."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from coldpress.budget import Budget
from coldpress.cost.profiles import table_for
from coldpress.energy.correlation import Correlation, energy_of, rank_correlation
from coldpress.energy.curvature import Sensitivities
from coldpress.errors import ArtifactError
from coldpress.evidence import calibration_parts, measure_energy
from coldpress.plan import Plan, Space
from coldpress.pricing import Prices, extra_macs, price
from coldpress.recipe import Recipe
from coldpress.recovery import Settings, apart, distil, held, kept_heads, nearer, not_zero, stream_inputs
from coldpress.run import Run
from coldpress.single_channels import choose_channels
from coldpress.space import find_space
from coldpress.space.bits import faster_dynamic, with_int8_form
from coldpress.structures import Measured
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import Moments, collect_moments
from coldpress.surgery.structure import rebuild
from coldpress.task import Task
from coldpress.vocabulary import rarest_first

logger = logging.getLogger("coldpress.pipeline")


def offered(run: Run) -> Space:
    """The space of a task, with the forms of int8 that the recipe asks for.

    A plan that was found elsewhere may name either form.
    """
    recipe = run.recipe
    space = find_space(run.task, recipe.kinds())
    if recipe.int8 != "auto" or recipe.choices:
        return with_int8_form(space, "both" if recipe.int8 == "auto" else recipe.int8)
    if "bits" not in recipe.kinds():
        return space
    table = table_for(recipe.device, recipe.threads, recipe.batch)
    return with_int8_form(space, "static", run.work.json("int8", lambda: faster_dynamic(space, table)))


def priced(run: Run, space: Space, timed: bool | None = None) -> tuple[Prices, Measured]:
    """The costs of the space's plans on this machine; ``timed``: whether latency is one, None as the recipe says."""
    recipe, slow = run.recipe, run.recipe.minds_size_alone()
    timed = recipe.wants_latency() if timed is None else timed
    table = table_for(recipe.device, recipe.threads, recipe.batch) if timed else None

    def compute() -> dict[str, Any]:
        prices, original = price(
            run.task,
            space,
            table=table,
            slow_bits=slow,
            measure_seconds=recipe.measure_seconds,
            seed=recipe.seed,
            progress=run.telling("measure layers"),
        )
        return {
            "extra_bytes": prices.extra_bytes,
            "calibration": prices.calibration,
            "points": prices.points,
            "original": asdict(original),
        }

    data = run.work.json("prices", compute)
    points = [(dict(c), float(p), float(s)) for c, p, s in data["points"]]
    calibration = (float(data["calibration"][0]), float(data["calibration"][1]))
    original = Measured(**data["original"])
    extra = float(data["extra_bytes"]), extra_macs(run.task, space)
    prices = Prices(space, table, *extra, slow, calibration, points, original.seconds)
    return prices, original


def effects_of(run: Run, space: Space) -> tuple[Effects, dict[str, Moments]]:
    """The effects of every option, with the order in which channels go."""
    model, recipe, tell = run.task.model, run.recipe, run.telling("order channels")
    inputs, _ = run.task.calibration(recipe.refit_images)
    with run.work.step("moments"):
        moments = collect_moments(model, [site.name for site in space.sites], inputs, seed=recipe.seed)
    effects = Effects(model, space, moments, batch=recipe.batch)

    def compute() -> dict[str, list[int]]:
        widths = [unit.name for unit in space.units if unit.kind == "width"]
        orders = {}
        for done, name in enumerate(widths):
            if tell:
                tell(done, len(widths))
            orders[name] = effects.order(name)
        if tell and widths:
            tell(len(widths), len(widths))
        return orders

    effects.orders.update(run.work.json("orders", compute))
    for unit in space.units:
        if unit.kind == "vocabulary":  # counted each time: it depends on all of train, which no key of a run tells
            effects.orders[unit.name] = rarest_first(run.task, unit.target)
    return effects, moments


def single_channels(
    run: Run, space: Space, prices: Prices, limits: Budget, moments: Mapping[str, Moments]
) -> dict[str, Any]:
    """The channels that stay, chosen one by one (``kept``), and the ``facts`` of the choice."""

    def compute() -> dict[str, Any]:
        given = {quantity: float(value) for quantity, value in limits.given().items()}
        found = choose_channels(run.task, space, prices, given, moments, run.recipe, run.tell)
        return {"kept": {name: list(kept) for name, kept in found.kept.items()}, "facts": dict(found.facts)}

    return dict(run.work.json("channels", compute))


def measured_energy(run: Run, space: Space, effects: Effects) -> tuple[Sensitivities, Correlation]:
    """Sensitivities of all options and the energy's correlation with measured losses."""
    work = run.work
    kept: dict[str, Any] = {}

    def compute() -> dict[str, Tensor]:
        found, correlation = measure_energy(run.task, space, effects, run.recipe, run.tell)
        kept.update(asdict(correlation), full_pass=found.full_pass, seconds=found.seconds, runs=found.runs)
        work.json("correlation", lambda: kept)
        return {
            "features": torch.from_numpy(found.features),
            "kl": torch.from_numpy(found.kl),
        }

    tensors = work.tensors("energy", compute)
    data = work.json("correlation", lambda: kept)
    total = len(tensors["kl"])
    if total != sum(space.sizes):
        raise ArtifactError(
            f"sensitivities in {work.measurements or work.folder} are of {total} options, here are {sum(space.sizes)}: "
            "they come of another version of coldpress; remove that folder"
        )
    found = Sensitivities(
        tensors["features"].numpy(),
        tensors["kl"].numpy(),
        np.zeros(total),
        np.ones(total, dtype=bool),
        0.0,
        data["seconds"],
        data["full_pass"],
        data["runs"],
    )
    names = ("plans", "predicted", "separable", "measured")
    lists = {name: tuple(data[name]) for name in names}
    return found, Correlation(
        **lists, spearman=data["spearman"], spearman_separable=data["spearman_separable"], alpha=data["alpha"]
    )


@dataclass(frozen=True)
class AfterRefit:
    """Random plans measured after the sequential re-fit."""

    predicted: tuple[float, ...]
    measured: tuple[float, ...]
    spearman: float | None


def after_refit(
    run: Run,
    space: Space,
    effects: Effects,
    moments: Mapping[str, Moments],
    found: Sensitivities,
    correlation: Correlation,
) -> AfterRefit:
    """The energy held against the loss after surgery and re-fit, for some of the random plans (their bits left out)."""
    task, recipe, tell = run.task, run.recipe, run.telling("random plans, re-fitted")

    def compute() -> dict[str, Any]:
        count = min(recipe.refit_plans, len(correlation.plans))
        chosen = np.linspace(0, len(correlation.plans) - 1, count).astype(int)
        bits = {unit.name for unit in space.units if unit.kind == "bits"}
        energy = found.energy(space, correlation.alpha)
        predicted, measured = [], []
        for done, i in enumerate(chosen):
            choices = {k: v for k, v in correlation.plans[int(i)].items() if k not in bits}
            student = surgery(task, space, Plan(choices, effects.kept(choices)), moments, recipe)[0]
            predicted.append(energy_of(energy, space, choices))
            measured.append(loss_on_calibration(task, student, recipe))
            if tell:
                tell(done + 1, count)
        spearman = rank_correlation(predicted, measured)
        return {"predicted": predicted, "measured": measured, "spearman": spearman if count > 2 else None}

    data = run.work.json("refit-correlation", compute)
    return AfterRefit(tuple(data["predicted"]), tuple(data["measured"]), data["spearman"])


def loss_on_calibration(task: Task, student: nn.Module, recipe: Recipe) -> float:
    """KL (nats) of a network from the original on the images that judge plans."""
    return apart(task.model, student, calibration_parts(task, recipe)[1])


def surgery(
    task: Task,
    space: Space,
    plan: Plan,
    moments: Mapping[str, Moments],
    recipe: Recipe,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[nn.Module, Plan]:
    """Carry a plan out: tensors shrink, weights are re-fitted, BatchNorm is recalibrated where that lowers the loss."""
    inputs, _ = task.calibration(recipe.refit_images)
    student, plan = apply_plan(
        task.model, space, plan, moments=moments, calibration=inputs, seed=recipe.seed, progress=progress
    )
    return nearer(task.model, student, inputs, calibration_parts(task, recipe)[1]), plan


def carried_out(run: Run, space: Space, plan: Plan, moments: Mapping[str, Moments]) -> tuple[nn.Module, Plan]:
    """The student after surgery, kept."""
    task, work = run.task, run.work
    made: dict[str, Plan] = {}

    def compute() -> dict[str, Tensor]:
        student, made["plan"] = surgery(task, space, plan, moments, run.recipe, run.telling("re-fit"))
        work.write("carried-out.json", made["plan"].to_json())
        return {name: tensor.clone() for name, tensor in student.state_dict().items()}

    tensors = work.tensors("student", compute)
    final = made.get("plan") or Plan.from_json(work.path("carried-out.json").read_text())
    return rebuilt(task, final, tensors), final


def rebuilt(task: Task, plan: Plan, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A network of the plan's structure with the given weights."""
    student = copy.deepcopy(task.model)
    rebuild(student, plan.structure)
    student.load_state_dict(dict(tensors))
    return student.eval()


def training_settings(recipe: Recipe) -> Settings:
    """How the student is trained. Raises TaskError when a value is out of its range."""
    return Settings(
        epochs=recipe.epochs,
        optimizer=recipe.optimizer,
        lr=recipe.lr,
        schedule=recipe.schedule,
        weight_decay=recipe.weight_decay,
        batch_size=recipe.batch_size,
        mixup=recipe.mixup,
        seed=recipe.seed,
    )


def recovered(run: Run, space: Space, student: nn.Module, plan: Plan) -> tuple[nn.Module, list[dict[str, Any]]]:
    """The student after distillation from the original (0 epochs, or no train data: as it was), and the curve."""
    task, recipe, work, tell = run.task, run.recipe, run.work, run.telling("distil")
    if recipe.epochs == 0 or task.train is None:
        if recipe.epochs:
            logger.warning("no train data: there is no fine-tuning")
        return student, []
    settings = training_settings(recipe)
    masks = not_zero(student) if recipe.retention_units == "weights" else {}
    curve: list[dict[str, Any]] = []

    def compute() -> dict[str, Tensor]:
        with held(student, masks):
            history = distil(
                student,
                task.model,
                task,
                settings,
                temperature=recipe.temperature,
                weight=recipe.distil_weight,
                hints=stream_inputs(space, plan),
                hint_weight=recipe.hint_weight,
                attention_weight=recipe.attention_weight,
                heads=kept_heads(space, plan),
                checkpoint_dir=work.path("checkpoints"),
                progress=(lambda step, steps, loss: tell(step, steps)) if tell else None,
            )
        for epoch in history.epochs:
            curve.append(
                {"epoch": epoch.epoch, "train_loss": epoch.train_loss, "validation_accuracy": epoch.validation_score}
            )
        work.json("curve", lambda: curve)
        return {name: tensor.clone() for name, tensor in student.state_dict().items()}

    tensors = work.tensors("recovered", compute)
    return rebuilt(task, plan, tensors), list(work.json("curve", lambda: curve))


def plain(inputs: Sequence[Tensor]) -> list[list[int | None]]:
    """Shapes with a free batch dimension, as JSON-ready data."""
    return [[None, *map(int, tensor.shape[1:])] for tensor in inputs]
