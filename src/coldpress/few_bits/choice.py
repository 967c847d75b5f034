"""Which layer gets how many bits: options looked at one by one, the energy of all, a solver, re-linearisation."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from coldpress.budget import Budget
from coldpress.energy.correlation import Correlation, correlate, measure_plans
from coldpress.energy.curvature import sensitivities
from coldpress.errors import BudgetError, SpaceError, TaskError
from coldpress.evidence import Progress
from coldpress.facts import answered
from coldpress.network import under
from coldpress.planning import trust_region
from coldpress.problem import Cost, Factor, Problem
from coldpress.solvers import Answer, solve
from coldpress.space.layers import layer_shapes, tied_modules
from coldpress.surgery.moments import MOST_COLUMNS, columns, unfolds_by_group
from coldpress.surgery.round_groups import Form
from coldpress.surgery.rounding_effects import RoundingEffects
from coldpress.task import Task

logger = logging.getLogger("coldpress.few_bits")

FORMS = (
    Form(8),
    Form(6),
    Form(5),
    Form(4),
    Form(4, 0.5),
    Form(3),
    Form(3, 0.5),
    Form(4, 0.75),
    Form(2),
)
"""What a layer may be stored as, where bits are decided layer by layer."""
ROUNDS = 6
MATRICES = 9
"""Of columns x columns in float64 that a layer takes while it is rounded, measured at 2,304 columns."""
TOO_LARGE = "would take"


@dataclass(frozen=True)
class Decided:
    """The form of every layer, and how it was found.

    Attributes:
        forms: by layer.
        solver: what the solver's first answer tells of itself.
        trace: of that answer, (seconds, energy, bound) as it went on.
        correlation: the energy held against measured losses of random choices.
    """

    forms: Mapping[str, Form]
    solver: Mapping[str, Any]
    trace: Sequence[Sequence[float | None]]
    correlation: Correlation

    def to_data(self) -> dict[str, Any]:
        """As JSON-ready data; ``Decided.from_data`` reads it back."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Decided:
        """What ``to_data`` gave."""
        known: dict[str, Any] = dict(data["correlation"])
        known |= {key: tuple(value) for key, value in known.items() if isinstance(value, list)}
        forms = {name: Form(**form) for name, form in data["forms"].items()}
        return cls(forms, data["solver"], data["trace"], Correlation(**known))


def decide_forms(
    task: Task,
    average_bits: float,
    calibration: int,
    refit_images: int,
    *,
    forms: Sequence[Form] = FORMS,
    group_size: int | None = None,
    solver: str = "auto",
    seed: int = 0,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Decided:
    """Share bits out among the layers of a task's model.

    Args:
        task: the model, and ``ignored_layers`` that keep floats.
        average_bits, calibration, refit_images, forms, group_size, solver, seed, executor, progress: as of
            `coldpress.round_network`.

    Raises:
        TaskError: there is only one sample to calibrate on.
        SpaceError: no layer can be rounded.
        BudgetError: no choice of forms has so few bits.
    """
    model, told = task.model, teller(progress)
    offered = {name: _offered(model, name, forms, group_size) for name in roundable(task)}
    _check_reachable(model, offered, average_bits)
    inputs, judges = fitted_and_judges(task, calibration, refit_images)
    effects = RoundingEffects(model, offered, inputs, seed, executor, told("round options"))
    first = [tensor[:calibration] for tensor in inputs]
    chosen, answer, correlation = _choose(model, effects, average_bits, first, judges, solver, seed, progress)
    return Decided(chosen, answered(answer), [list(moment) for moment in answer.trace], correlation)


def fitted_and_judges(task: Task, calibration: int, refit_images: int) -> tuple[list[Tensor], list[Tensor]]:
    """Calibration inputs that weights and statistics are fitted to, and others that judge; no sample is in both.

    Args:
        task: where they are drawn.
        calibration: samples that judge, of few ones at most half of them; so many of the others make the energy.
        refit_images: samples that are fitted to.

    Raises:
        TaskError: there is only one sample.
    """
    fitted = max(calibration, refit_images)
    inputs, _ = task.calibration(fitted + calibration)
    count = len(inputs[0])
    if count < 2:
        raise TaskError("train data has 1 sample; rounding fits to some and judges on others: give more of them")
    start = min(fitted, max(count - calibration, (count + 1) // 2))
    return [tensor[:start] for tensor in inputs], [tensor[start:] for tensor in inputs]


def roundable(task: Task) -> list[str]:
    """Names of the layers that can be rounded, in network order. Raises SpaceError where there is none."""
    reasons = reasons_for_floats(task)
    for name, reason in reasons.items():
        if TOO_LARGE in reason:
            logger.warning("%s keeps floats: %s", name, reason)
    found = [name for name in layer_shapes(task.model, task.example_inputs) if name not in reasons]
    if not found:
        raise SpaceError(
            "no layer of this model can be rounded: there must be a linear layer, or a convolution with zeros as "
            f"padding, of at most {MOST_COLUMNS:,} columns ({memory_of(MOST_COLUMNS) / 1e9:.1f} GB while they are "
            "rounded), whose weights are its own and that is not ignored"
        )
    return found


def reasons_for_floats(task: Task) -> dict[str, str]:
    """Why layers keep floats, by their names."""
    ignored, tied = tuple(task.ignored_layers), tied_modules(task.model)
    found = {}
    for name in layer_shapes(task.model, task.example_inputs):
        module = task.model.get_submodule(name)
        if under(name, ignored):
            found[name] = "it is ignored"
        elif name in tied:
            found[name] = "it shares its weights with another module"
        elif not unfolds_by_group(module):
            found[name] = "it is no linear layer or convolution that pads with zeros, the same on both sides"
        elif (width := columns(module)) > MOST_COLUMNS:
            found[name] = (
                f"its {width:,} columns {TOO_LARGE} {memory_of(width) / 1e9:.1f} GB of matrices while it is rounded; "
                f"the limit is {MOST_COLUMNS:,} columns, {memory_of(MOST_COLUMNS) / 1e9:.1f} GB"
            )
    return found


def memory_of(width: int) -> int:
    """Bytes of the matrices while a layer of so many columns is rounded."""
    return MATRICES * 8 * width**2


def _offered(model: nn.Module, name: str, forms: Sequence[Form], group_size: int | None) -> list[Form]:
    """The forms in the order of their bytes, the most first."""
    rows, width = matrix(model, name)
    own = [replace(form, group_size=form.group_size or group_size) for form in forms]
    return sorted(own, key=lambda form: -form.bytes(rows, width))


def matrix(model: nn.Module, name: str) -> tuple[int, int]:
    """Rows and columns of a layer's weights."""
    module = model.get_submodule(name)
    return len(module.get_parameter("weight")), columns(module)


def _check_reachable(model: nn.Module, offered: Mapping[str, Sequence[Form]], average_bits: float) -> None:
    """Raise BudgetError, before time is spent, where no choice of forms has so few bits."""
    shapes = {name: matrix(model, name) for name in offered}
    smallest = sum(min(form.bytes(*shapes[name]) for form in own) for name, own in offered.items())
    least = 8 * smallest / sum(rows * width for rows, width in shapes.values())
    if least > average_bits:
        rounded_up = math.ceil(100 * least) / 100
        raise BudgetError(
            f"no choice of forms has {average_bits:g} bits a weight on average, scales and places of zeros included: "
            f"the least is {rounded_up:.2f}"
        )


def _choose(
    model: nn.Module,
    effects: RoundingEffects,
    average_bits: float,
    inputs: Sequence[Tensor],
    judges: Sequence[Tensor],
    solver: str,
    seed: int,
    progress: Progress | None,
) -> tuple[dict[str, Form], Answer, Correlation]:
    """The form of every layer: least energy within the bits, re-linearised around the choice while that helps."""
    space, told = effects.space, teller(progress)
    costs, limit = _size(model, effects, average_bits)
    budget = Budget(size=limit)
    found = sensitivities(model, space, effects, inputs, progress=told("energy"))
    correlation = correlate(model, space, effects, found, judges, seed=seed, progress=told("random choices"))
    best: tuple[float, Answer] | None = None
    for alpha in sorted({0.0, correlation.alpha}):
        answer = solve(Problem(space, found.energy(space, alpha), {"size": costs}, budget), solver, seed=seed)
        (loss,) = measure_plans(model, effects, [answer.plan.choices], judges)
        best = (loss, answer) if best is None or loss < best[0] else best
    assert best is not None
    loss, answer = best
    choices = dict(answer.plan.choices)
    for number in range(ROUNDS):
        around = sensitivities(
            model, space, effects, inputs, incumbent=choices, radius=1, progress=told("re-linearise")
        )
        local = {"size": costs, "trust region": trust_region(space, around)}
        other = solve(Problem(space, around.energy(space, correlation.alpha), local, budget), solver, seed=seed)
        (now,) = measure_plans(model, effects, [other.plan.choices], judges)
        logger.info("round %d: KL %.4g to %.4g", number + 1, loss, now)
        if now >= loss:
            break
        loss, choices = now, dict(other.plan.choices)
    return effects.chosen(choices), answer, correlation


def _size(model: nn.Module, effects: RoundingEffects, average_bits: float) -> tuple[Cost, float]:
    """Bytes of the layers as a function of their forms, and the bytes that so many bits a weight allow."""
    factors, weights = [], 0
    for u, unit in enumerate(effects.space.units):
        rows, width = matrix(model, unit.name)
        sizes = [4 * rows * width, *(form.bytes(rows, width) for form in effects.forms[unit.name].values())]
        factors.append(Factor((u,), np.array(sizes, np.float64)))
        weights += rows * width
    return Cost("size", tuple(factors)), average_bits * weights / 8


def teller(progress: Progress | None) -> Callable[[str], Callable[[int, int], None] | None]:
    def told(step: str) -> Callable[[int, int], None] | None:
        return (lambda done, total: progress(step, done, total)) if progress else None

    return told
