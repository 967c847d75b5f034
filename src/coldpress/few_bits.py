"""Weights of a whole network in few bits: how many each layer gets is decided by energy, then a search rounds them.

What comes out is smaller on disk. No runtime here is faster for it; where one has a kernel for 4 bits, see the export.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coldpress.budget import Budget
from coldpress.energy.correlation import correlate, measure_plans
from coldpress.energy.curvature import sensitivities
from coldpress.errors import BudgetError, TaskError
from coldpress.planning import trust_region
from coldpress.problem import Cost, Factor, Problem
from coldpress.recovery import apart, nearer
from coldpress.solvers import Answer, solve
from coldpress.space.layers import layer_shapes
from coldpress.surgery.moments import collect_moments, unfolds
from coldpress.surgery.round_layers import Form, round_layers
from coldpress.surgery.round_weights import SWEEPS, Rounded
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
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class RoundedNetwork:
    """A network whose layers' weights are few-bit levels times scales.

    Attributes:
        model: computes with the rounded weights, as floats.
        layers: what each layer was rounded to.
        forms: how each layer is stored.
        average_bits: bits a weight over these layers, scales and places of zeros included.
        bytes: of these layers, packed; all else of the network comes on top, in floats.
        kl: KL divergence (nats) from the original on calibration data that nothing was fitted to.
        answer: the solver's, where bits were decided; its energy is that of the first problem.
        spearman: the energy's rank correlation with measured losses of random choices; None where nothing was decided.
    """

    model: nn.Module
    layers: dict[str, Rounded]
    forms: dict[str, Form]
    average_bits: float
    bytes: int
    kl: float
    answer: Answer | None = None
    spearman: float | None = None


def round_network(
    task: Task,
    bits: int | None = None,
    average_bits: float | None = None,
    *,
    forms: Sequence[Form] = FORMS,
    calibration: int = 256,
    refit_images: int = 1024,
    sweeps: int = SWEEPS,
    group_size: int | None = None,
    solver: str = "auto",
    seed: int = 0,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> RoundedNetwork:
    """Round the weights of all linear layers and convolutions of one group; the model itself is not changed.

    Args:
        task: its model, train data to calibrate on, and ``ignored_layers`` that keep floats.
        bits: of every layer; or
        average_bits: over all layers, scales and places of zeros included: the forms are decided layer by layer.
        forms: that a layer may have then.
        calibration: samples for the energy, and as many to judge choices on.
        refit_images: samples for the re-fit and for the layers' Hessians.
        sweeps: of the search in each layer.
        group_size: columns that share a scale, with ``bits``.
        solver: of the choice.
        seed: of the search and the solver.
        executor: maps over layers while options are looked at.
        progress: called with (step, done, in all).

    Raises:
        TaskError: neither or both of ``bits`` and ``average_bits`` are given.
        BudgetError: no choice of forms has so few bits.
        SurgeryError: bits are out of range, or weights or inputs are not finite.
    """
    if (bits is None) == (average_bits is None):
        raise TaskError("give either bits, for all layers, or average_bits, to be shared out among them")
    model, told = task.model, _teller(progress)
    names = _layers(task)
    inputs, _ = task.calibration(max(refit_images, 2 * calibration))
    judges = [tensor[calibration : 2 * calibration] for tensor in inputs]
    answer, spearman = None, None
    if bits is not None:
        chosen = {name: Form(bits, group_size=group_size) for name in names}
    else:
        assert average_bits is not None
        moments = collect_moments(model, names, inputs, seed=seed)
        effects = RoundingEffects(
            model,
            {name: _offered(model, name, forms) for name in moments},
            moments,
            seed,
            executor,
            told("round options"),
        )
        first = [tensor[:calibration] for tensor in inputs]
        chosen, answer, spearman = _choose(model, effects, average_bits, first, judges, solver, seed, progress)
    student = copy.deepcopy(model)
    layers = round_layers(student, model, inputs, chosen, sweeps=sweeps, seed=seed, progress=told("round layers"))
    student = nearer(model, student, inputs, judges)
    size = sum(packed_bytes(layers[name], form) for name, form in chosen.items())
    weights = sum(layer.levels.numel() for layer in layers.values())
    return RoundedNetwork(
        student, layers, chosen, 8 * size / max(weights, 1), size, apart(model, student, judges), answer, spearman
    )


def packed_bytes(layer: Rounded, form: Form) -> int:
    """Bytes of a rounded layer: levels (of sparse weights those that are not zero, and their places) and scales."""
    rows, columns = layer.levels.shape
    if form.sparsity is None:
        return form.bytes(rows, columns)
    kept = int((layer.levels != 0).sum())
    return -(-(kept * form.bits + rows * columns) // 8) + 4 * layer.scales.numel()


def _layers(task: Task) -> list[str]:
    """Names of the layers that can be rounded, in network order."""
    ignored = tuple(task.ignored_layers)
    return [
        name
        for name in layer_shapes(task.model, task.example_inputs)
        if unfolds(task.model.get_submodule(name)) and not any(f"{name}.".startswith(f"{i}.") for i in ignored)
    ]


def _offered(model: nn.Module, name: str, forms: Sequence[Form]) -> list[Form]:
    """The forms in the order of their bytes, the most first."""
    rows, columns = model.get_submodule(name).get_parameter("weight").flatten(1).shape
    return sorted(forms, key=lambda form: -form.bytes(rows, columns))


def _choose(
    model: nn.Module,
    effects: RoundingEffects,
    average_bits: float,
    inputs: Sequence[Tensor],
    judges: Sequence[Tensor],
    solver: str,
    seed: int,
    progress: Progress | None,
) -> tuple[dict[str, Form], Answer, float]:
    """The form of every layer: least energy within the bits, re-linearised around the choice while that helps."""
    space, told = effects.space, _teller(progress)
    costs, limit = _size(model, effects, average_bits)
    smallest = sum(float(factor.table.min()) for factor in costs.factors)
    if smallest > limit:
        least = average_bits * smallest / limit
        raise BudgetError(f"no choice of forms has {average_bits:g} bits a weight on average: the least is {least:.2f}")
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
    return effects.chosen(choices), answer, correlation.spearman


def _size(model: nn.Module, effects: RoundingEffects, average_bits: float) -> tuple[Cost, float]:
    """Bytes of the layers as a function of their forms, and the bytes that so many bits a weight allow."""
    factors, weights = [], 0
    for u, unit in enumerate(effects.space.units):
        matrix = model.get_submodule(unit.name).get_parameter("weight").flatten(1)
        forms = effects.forms[unit.name].values()
        sizes = [4 * matrix.numel(), *(form.bytes(*matrix.shape) for form in forms)]
        factors.append(Factor((u,), torch.tensor(sizes, dtype=torch.float64).numpy()))
        weights += matrix.numel()
    return Cost("size", tuple(factors)), average_bits * weights / 8


def _teller(progress: Progress | None) -> Callable[[str], Callable[[int, int], None] | None]:
    def told(step: str) -> Callable[[int, int], None] | None:
        return (lambda done, total: progress(step, done, total)) if progress else None

    return told
