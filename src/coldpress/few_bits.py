"""Weights of a whole network in few bits: how many each layer gets is decided by energy, then a search rounds them.

What comes out is smaller on disk. No runtime here is faster for it; where one has a kernel for 4 bits, see the export.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from coldpress.budget import Budget
from coldpress.energy.correlation import Correlation, correlate, measure_plans
from coldpress.energy.curvature import sensitivities
from coldpress.errors import BudgetError, SpaceError, TaskError
from coldpress.planning import trust_region
from coldpress.problem import Cost, Factor, Problem
from coldpress.recipe import FEW_BITS
from coldpress.recovery import apart, nearer
from coldpress.solvers import Answer, solve
from coldpress.space.layers import layer_shapes, tied_modules
from coldpress.surgery.moments import MOST_COLUMNS, columns, unfolds
from coldpress.surgery.round_layers import Form, round_layers
from coldpress.surgery.round_weights import SWEEPS, Rounded
from coldpress.surgery.rounding_effects import RoundingEffects
from coldpress.surgery.structure import describe_changes
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
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RoundedNetwork:
    """A network whose layers' weights are few-bit levels times scales.

    Attributes:
        model: computes with the rounded weights, as floats.
        layers: what each layer was rounded to; one that could be, and is not named, was left in floats.
        forms: how each of them is stored.
        average_bits: bits a weight over all layers that could be rounded, scales and places of zeros included.
        bytes: of all those layers, packed; all else of the network comes on top, in floats.
        structure: the layers that gained a bias, as `coldpress.pack_weights` takes it beside ``model`` and ``layers``.
        kl: KL divergence (nats) from the original on calibration data that nothing was fitted to.
        answer: the solver's, where bits were decided; its energy is that of the first problem.
        correlation: the energy held against measured losses of random choices; None where nothing was decided.
    """

    model: nn.Module
    layers: dict[str, Rounded]
    forms: dict[str, Form]
    average_bits: float
    bytes: int
    structure: Mapping[str, Mapping[str, Any]]
    kl: float
    answer: Answer | None = None
    correlation: Correlation | None = None

    @property
    def spearman(self) -> float | None:
        """The energy's rank correlation with measured losses of random choices."""
        return None if self.correlation is None else self.correlation.spearman


def round_network(
    task: Task,
    bits: int | None = None,
    average_bits: float | None = None,
    *,
    forms: Sequence[Form] = FORMS,
    calibration: int = FEW_BITS["calibration"],
    refit_images: int = FEW_BITS["refit_images"],
    sweeps: int = SWEEPS,
    group_size: int | None = None,
    solver: str = "auto",
    seed: int = 0,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> RoundedNetwork:
    """Round the weights of all linear layers and convolutions of one group; the model itself is not changed.

    Layers that share their weights with another module, and those of more than 6,000 columns, keep floats.

    Memory: layers are taken one by one, and a layer of c columns (a convolution's are channels x kernel) takes nine
    (c, c) matrices of float64 while it is rounded (measured at 2,304): 1.5 GB at 4,608 columns, 2.6 GB at 6,000, the
    most. Beside them: all ``refit_images`` of one layer's activations, the original's outputs at up to 65,536
    positions of each layer still to come, and, where bits are decided, the layers' weights in every form (float32),
    1 GB of Hessians (or one layer's, where that is more) and up to 4 GB of recorded activations.

    Args:
        task: its model, train data to calibrate on, and ``ignored_layers`` that keep floats.
        bits: of every layer; or
        average_bits: over all layers, scales and places of zeros included: the forms are decided layer by layer.
        forms: that a layer may have then.
        calibration: samples for the energy, and as many to judge choices on.
        refit_images: samples for the re-fit and for the layers' Hessians.
        sweeps: of the search in each layer.
        group_size: columns that share a scale, in forms that do not say it themselves; None: a whole row does.
        solver: of the choice.
        seed: of the search and the solver.
        executor: maps over a layer's forms while options are looked at.
        progress: called with (step, done, in all).

    Raises:
        TaskError: neither or both of ``bits`` and ``average_bits`` are given.
        SpaceError: no layer can be rounded.
        BudgetError: no choice of forms has so few bits; the message says how few there can be.
        SurgeryError: bits are out of range, or weights or inputs are not finite.
    """
    check_asked(bits, average_bits)
    model, told = task.model, _teller(progress)
    names = _layers(task)
    offered = {name: _offered(model, name, forms, group_size) for name in names}
    if average_bits is not None:
        _check_reachable(model, offered, average_bits)
    inputs, _ = task.calibration(max(refit_images, 2 * calibration))
    judges = [tensor[calibration : 2 * calibration] for tensor in inputs]
    answer, correlation = None, None
    if bits is not None:
        chosen = {name: Form(bits, group_size=group_size) for name in names}
    else:
        assert average_bits is not None
        effects = RoundingEffects(model, offered, inputs, seed, executor, told("round options"))
        first = [tensor[:calibration] for tensor in inputs]
        chosen, answer, correlation = _choose(model, effects, average_bits, first, judges, solver, seed, progress)
    student = copy.deepcopy(model)
    layers = round_layers(student, model, inputs, chosen, sweeps=sweeps, seed=seed, progress=told("round layers"))
    student = nearer(model, student, inputs, judges)
    weights = {name: math.prod(_matrix(model, name)) for name in names}
    size = sum(packed_bytes(layers[name], chosen[name]) if name in layers else 4 * weights[name] for name in names)
    average, structure = 8 * size / sum(weights.values()), describe_changes(model, student)
    kl = apart(model, student, judges)
    return RoundedNetwork(student, layers, chosen, average, size, structure, kl, answer, correlation)


def packed_bytes(layer: Rounded, form: Form) -> int:
    """Bytes of a rounded layer: levels (of sparse weights those that are not zero, and their places) and scales."""
    rows, columns = layer.levels.shape
    if form.sparsity is None:
        return form.bytes(rows, columns)
    kept = int((layer.levels != 0).sum())
    return -(-(kept * form.bits + rows * columns) // 8) + 4 * layer.scales.numel()


def check_asked(bits: int | None, average_bits: float | None) -> None:
    """Raise TaskError unless one of the two is given."""
    if (bits is None) == (average_bits is None):
        raise TaskError(
            f"{'neither' if bits is None else 'both'} of bits and average_bits given: give either bits, for all "
            "layers, or average_bits, to be shared out among them"
        )


def _layers(task: Task) -> list[str]:
    """Names of the layers that can be rounded, in network order. Raises SpaceError where there is none."""
    ignored, tied = tuple(task.ignored_layers), tied_modules(task.model)
    found = []
    for name in layer_shapes(task.model, task.example_inputs):
        module = task.model.get_submodule(name)
        if not unfolds(module) or name in tied or any(f"{name}.".startswith(f"{i}.") for i in ignored):
            continue
        if columns(module) > MOST_COLUMNS:
            logger.warning("%s keeps floats: it has %d columns, more than %d", name, columns(module), MOST_COLUMNS)
            continue
        found.append(name)
    if not found:
        raise SpaceError(
            "no layer of this model can be rounded: there must be a linear layer, or a convolution of one group with "
            f"zeros as padding, of at most {MOST_COLUMNS:,} columns, whose weights are its own and that is not ignored"
        )
    return found


def _offered(model: nn.Module, name: str, forms: Sequence[Form], group_size: int | None) -> list[Form]:
    """The forms in the order of their bytes, the most first."""
    rows, width = _matrix(model, name)
    own = [replace(form, group_size=form.group_size or group_size) for form in forms]
    return sorted(own, key=lambda form: -form.bytes(rows, width))


def _matrix(model: nn.Module, name: str) -> tuple[int, int]:
    """Rows and columns of a layer's weights."""
    module = model.get_submodule(name)
    return len(module.get_parameter("weight")), columns(module)


def _check_reachable(model: nn.Module, offered: Mapping[str, Sequence[Form]], average_bits: float) -> None:
    """Raise BudgetError, before time is spent, where no choice of forms has so few bits."""
    shapes = {name: _matrix(model, name) for name in offered}
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
    space, told = effects.space, _teller(progress)
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
        rows, width = _matrix(model, unit.name)
        sizes = [4 * rows * width, *(form.bytes(rows, width) for form in effects.forms[unit.name].values())]
        factors.append(Factor((u,), np.array(sizes, np.float64)))
        weights += rows * width
    return Cost("size", tuple(factors)), average_bits * weights / 8


def _teller(progress: Progress | None) -> Callable[[str], Callable[[int, int], None] | None]:
    def told(step: str) -> Callable[[int, int], None] | None:
        return (lambda done, total: progress(step, done, total)) if progress else None

    return told
