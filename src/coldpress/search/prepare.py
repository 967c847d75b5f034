"""What a search stands on: the space and its effects, the costs of its plans, and the data that trials see."""

from __future__ import annotations

import torch
from torch import Tensor

from coldpress import steps
from coldpress.data import Batch
from coldpress.deciding import loadable
from coldpress.keys import run_key
from coldpress.plan import Space
from coldpress.planning import absolute, check_reachable
from coldpress.problem import Energy, Problem
from coldpress.recipe import Recipe
from coldpress.run import Run
from coldpress.search.objective import SearchSettings
from coldpress.space import find_space
from coldpress.space.bits import with_int8_form
from coldpress.surgery.effects import Effects
from coldpress.task import Task

Data = tuple[list[Tensor], Tensor]
DEPENDED = (
    "tokens",
    "device",
    "budget",
    "memory",
    "units",
    "int8",
    "calibration",
    "refit_images",
    "threads",
    "batch",
    "seed",
    "ignored_layers",
)
"""The recipe's settings that a study's trials depend on, beside the files themselves; the recovery comes after it."""
MOST_VALIDATION = 2048


def study_key(task: Task, recipe: Recipe) -> str:
    """Names weights, samples of the data and the settings that trials depend on, whatever the files are called."""
    return run_key(task, Recipe().changed({name: getattr(recipe, name) for name in DEPENDED}))


def priced_problem(run: Run, space: Space, settings: SearchSettings) -> Problem:
    """The costs of the space's plans on this machine and the limits of budget and memory, without an energy.

    Raises:
        BudgetError: no plan can meet the budget.
    """
    timed = settings.needs_latency or run.recipe.wants_latency(settings.costs)
    prices, original = steps.priced(run, space, timed)
    costs = prices.costs()
    originals = {name: cost.value([0] * len(space.units)) for name, cost in costs.items()}
    measured = {"size": float(original.bytes), "latency": original.seconds}
    originals |= {name: value for name, value in measured.items() if value is not None and name in costs}
    limits = loadable(absolute(run.recipe.limits(), originals), run.recipe.memory_bytes(), originals["size"])
    check_reachable(space, prices, limits)
    options = sum(space.sizes)
    return Problem(space, Energy(torch.zeros(options, options).numpy(), torch.zeros(options).numpy()), costs, limits)


def effects(run: Run, settings: SearchSettings) -> tuple[Space, Effects]:
    """The space of a task and what its options do.

    Workers on other machines must have the same one: the form of int8 is not left to what this machine measures.
    """
    task, recipe = run.task, run.recipe
    torch.manual_seed(recipe.seed)
    form = "static" if recipe.int8 == "auto" else recipe.int8
    space = with_int8_form(find_space(task, recipe.kinds(settings.costs)), form)
    return space, steps.effects_of(run, space)[0]


def trial_data(task: Task, recipe: Recipe, images: int) -> Data:
    """Samples of train that no weight is re-fitted on; where there are too few for that, the last ones."""
    fitted = max(recipe.calibration, recipe.refit_images)
    inputs, labels = task.calibration(fitted + images)
    start = min(fitted, max(len(labels) - images, len(labels) // 2))
    return [tensor[start : start + images] for tensor in inputs], labels[start : start + images]


def validation_batches(task: Task) -> list[Batch]:
    """Samples of validation, which choose among the best trials; texts of each batch are filled up to its longest."""
    found: list[Batch] = []
    if task.validation is None:
        return found
    for batch in task.batches("validation"):
        found.append(batch)
        if sum(len(labels) for _, labels in found) >= MOST_VALIDATION:
            break
    return found
