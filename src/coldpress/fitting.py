"""Whether a limit on memory can be kept, told before time is spent."""

from __future__ import annotations

from torch import nn

from coldpress.deploy import deployed, served
from coldpress.plan import Plan, Space
from coldpress.recipe import Recipe
from coldpress.runtime.limits import check_bare, run_within
from coldpress.task import Task


def check_memory(recipe: Recipe) -> None:
    """Raise BudgetError where no network at all runs within the recipe's memory."""
    memory = recipe.memory_bytes()
    if memory is not None:
        check_bare(memory, recipe.threads)


def check_runs_within(task: Task, space: Space, plan: Plan, student: nn.Module, recipe: Recipe) -> None:
    """Raise BudgetError where a network, as it would be deployed, does not run within the recipe's memory.

    What it takes depends on its shapes and number formats, so it need not be trained.
    """
    memory = recipe.memory_bytes()
    if memory is not None:
        with deployed(task, space, plan, student) as path:
            run_within(path, served(task.example_inputs, recipe.batch), memory, recipe.threads)
