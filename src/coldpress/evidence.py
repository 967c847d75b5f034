"""What plans are found by: the energy, held against measured losses, and the data that both rest on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from coldpress.energy.correlation import Correlation, correlate, measure_plans
from coldpress.energy.curvature import Sensitivities, sensitivities
from coldpress.plan import Space
from coldpress.pricing import Prices
from coldpress.problem import Problem
from coldpress.recipe import Recipe
from coldpress.solvers import Answer, solve
from coldpress.structures import Choices
from coldpress.surgery.effects import Effects
from coldpress.task import Task

Progress = Callable[[str, int, int], None]
"""Told of a step, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Evidence:
    """Everything that plans are found by.

    Attributes:
        task: the model and its data.
        space: its space.
        effects: the options' effects.
        found: the options' sensitivities.
        correlation: holds the shrinkage alpha.
        prices: the costs; corrected in place by what is measured.
        recipe: solver, time limit, rounds, seed.
    """

    task: Task
    space: Space
    effects: Effects
    found: Sensitivities
    correlation: Correlation
    prices: Prices
    recipe: Recipe

    def solve(self, problem: Problem) -> Answer:
        """The solver's answer, by the recipe's settings."""
        return solve(problem, self.recipe.solver, seed=self.recipe.seed, time_limit=self.recipe.time_limit)

    def losses(self, plans: Sequence[Choices]) -> list[float]:
        """Measured KL (nats) of plans on fresh inputs, before the sequential re-fit."""
        _, fresh = calibration_parts(self.task, self.recipe)
        return list(measure_plans(self.task.model, self.effects, list(plans), fresh))


def calibration_parts(task: Task, recipe: Recipe) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs that the energy is made on, and others that judge plans: those that no weight was fitted on either.

    Where the data has too few samples for that, the judges are the last of those that there are.
    """
    fitted = max(recipe.calibration, recipe.refit_images)
    inputs, _ = task.calibration(fitted + recipe.calibration)
    first = [tensor[: recipe.calibration] for tensor in inputs]
    start = min(fitted, max(len(inputs[0]) - recipe.calibration, len(inputs[0]) // 2))
    return first, [tensor[start:] for tensor in inputs]


def measure_energy(
    task: Task, space: Space, effects: Effects, recipe: Recipe, progress: Progress | None = None
) -> tuple[Sensitivities, Correlation]:
    """Sensitivities on one half of the calibration data, random plans on the other."""
    first, fresh = calibration_parts(task, recipe)

    def tell(step: str) -> Callable[[int, int], None] | None:
        return (lambda done, total: progress(step, done, total)) if progress else None

    found = sensitivities(task.model, space, effects, first, progress=tell("energy"))
    plans = correlate(
        task.model,
        space,
        effects,
        found,
        fresh,
        count=recipe.random_plans,
        seed=recipe.seed,
        progress=tell("random plans"),
    )
    return found, plans
