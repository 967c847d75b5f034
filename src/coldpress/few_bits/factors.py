"""Layers of a network as two factors of few levels, kept so: real layers, packed, only where bytes and
multiplications fall.

Size, not speed: no runtime here has a kernel for ternary or sparse factors, which run as floats.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

from coldpress.errors import SpaceError
from coldpress.evidence import Progress
from coldpress.few_bits.choice import fitted_and_judges, matrix, reasons_for_floats, roundable, teller
from coldpress.few_bits.network import RoundedNetwork
from coldpress.recipe import FEW_BITS
from coldpress.recovery import apart, nearer
from coldpress.space.layers import layer_shapes
from coldpress.space.rank_rules import named_rule, ruled_rank
from coldpress.surgery.annealed_factors import ROUNDS
from coldpress.surgery.factor_layers import FactorPair, factor_layers
from coldpress.surgery.moments import groups_of
from coldpress.surgery.structure import describe_changes
from coldpress.task import Task


def factor_network(
    task: Task,
    rank: int | str,
    left: str = "float",
    right: str = "ternary",
    *,
    layers: Sequence[str] | None = None,
    calibration: int = FEW_BITS["calibration"],
    refit_images: int = FEW_BITS["refit_images"],
    rounds: int = ROUNDS,
    seed: int = 0,
    progress: Progress | None = None,
) -> RoundedNetwork:
    """Annealed factors in the place of linear layers and convolutions; the model itself is not changed.

    In network order, each to the original's activations, as `coldpress.round_network` rounds.

    Args:
        task: its model, train data to calibrate on, and ``ignored_layers`` that stay as they are.
        rank: of the factors: a number, or by layer "energy:0.9" (of squared singular values) or "evbmf".
        left: form of the factor that gives the outputs, see `coldpress.surgery.factor_layers.FactorPair`.
        right: form of the one that reads the inputs.
        layers: those to replace; None: all whose bytes and multiplications fall by it.
        calibration: samples that judge the result; nothing is fitted to them.
        refit_images: samples for the layers' second moments and the re-fit.
        rounds: of annealing in each layer.
        seed: of the annealing.
        progress: called with (step, done, in all).

    Raises:
        TaskError: there is only one sample to calibrate on.
        SpaceError: no layer would gain by it, or one that was named cannot be replaced.
        SurgeryError: a form that there is not, or a layer that was named and would not gain by it.

    Example:
        >>> network = factor_network(task, "energy:0.9", right="ternary")  # doctest: +SKIP
        >>> coldpress.pack_weights(network.model, network.layers, "net", network.structure)  # doctest: +SKIP
    """
    model = task.model
    pairs = _pairs(task, rank, left, right, layers)
    inputs, judges = fitted_and_judges(task, calibration, refit_images)
    student = copy.deepcopy(model)
    told = teller(progress)("factorise layers")
    found = factor_layers(student, model, inputs, pairs, rounds=rounds, seed=seed, progress=told)
    student = nearer(model, student, inputs, judges)
    shapes = {name: matrix(model, name) for name in roundable(task)}
    size = sum(pairs[name].bytes(*own) if name in pairs else 4 * math.prod(own) for name, own in shapes.items())
    average = 8 * size / sum(math.prod(own) for own in shapes.values())
    structure = describe_changes(model, student)
    return RoundedNetwork(student, found, pairs, average, size, structure, apart(model, student, judges))


def _pairs(task: Task, rank: int | str, left: str, right: str, layers: Sequence[str] | None) -> dict[str, FactorPair]:
    """How each layer that is to be replaced is stored."""
    names = [name for name in roundable(task) if groups_of(task.model.get_submodule(name)) == 1]
    reasons = reasons_for_floats(task)
    for name in layers or ():
        if name not in names:
            raise SpaceError(
                f"{name!r} cannot become two factors: {reasons.get(name, 'it is no layer of one group')}; leave it out"
            )
    found = {}
    for name, shape in layer_shapes(task.model, task.example_inputs).items():
        if name in (names if layers is None else layers):
            weight = task.model.get_submodule(name).get_parameter("weight")
            own = rank if isinstance(rank, int) else ruled_rank(shape, weight, "svd", named_rule(rank))[0]
            pair = FactorPair(own, left, right)
            if layers is not None or pair.pays(*matrix(task.model, name)):
                found[name] = pair
    if not found:
        raise SpaceError(
            f"no layer takes fewer bytes and multiplications as {left} x {right} factors of rank {rank}, below its "
            "full rank: give a lower rank, or forms of fewer bits"
        )
    return found
