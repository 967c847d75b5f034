"""Weights of a whole network in few bits: how many each layer gets is decided by energy, then a search rounds them.

What comes out is smaller on disk. No runtime here is faster for it; where one has a kernel for 4 bits, see the export.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from torch import nn

from coldpress.errors import TaskError
from coldpress.evidence import Progress
from coldpress.few_bits.choice import FORMS, Decided, decide_forms, fitted_and_judges, matrix, roundable, teller
from coldpress.recipe import FEW_BITS
from coldpress.recovery import apart, nearer
from coldpress.surgery.factor_layers import FactorPair
from coldpress.surgery.round_groups import Form
from coldpress.surgery.round_layers import round_layers
from coldpress.surgery.round_weights import SWEEPS, Rounded
from coldpress.surgery.structure import describe_changes
from coldpress.task import Task

__all__ = ["FORMS", "RoundedNetwork", "check_asked", "packed_bytes", "round_network"]


@dataclass(frozen=True)
class RoundedNetwork:
    """A network whose layers' weights are few-bit levels times scales.

    Attributes:
        model: computes with the rounded weights, as floats.
        layers: what each layer was rounded to; one that could be, and is not named, was left in floats. Of a layer
            that became two factors, those of them that have levels.
        forms: how each of the original's layers that changed is stored.
        average_bits: bits a weight over all layers that could be rounded, scales and places of zeros included.
        bytes: of all those layers, packed; all else of the network comes on top, in floats.
        structure: the layers that gained a bias, as `coldpress.pack_weights` takes it beside ``model`` and ``layers``.
        kl: KL divergence (nats) from the original on calibration data that nothing was fitted to; it also judged which
            forms and which statistics of BatchNorms were taken.
        decided: how bits were decided; None where all layers were given as many.
    """

    model: nn.Module
    layers: dict[str, Rounded]
    forms: Mapping[str, Form | FactorPair]
    average_bits: float
    bytes: int
    structure: Mapping[str, Mapping[str, Any]]
    kl: float
    decided: Decided | None = None

    @property
    def spearman(self) -> float | None:
        """The energy's rank correlation with measured losses of random choices."""
        return None if self.decided is None else self.decided.correlation.spearman


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
    decided: Decided | None = None,
) -> RoundedNetwork:
    """Round the weights of all linear layers and convolutions; the model itself is not changed.

    Each group of a grouped or depthwise convolution has its own Hessian. Layers that share their weights with another
    module, convolutions that pad with something else than zeros, and layers of more than 6,000 columns keep floats.

    Memory: layers are taken one by one, and a layer of c columns (a convolution's are channels x kernel) takes nine
    (c, c) matrices of float64 while it is rounded (measured at 2,304): 1.5 GB at 4,608 columns, 2.6 GB at 6,000, the
    most. Beside them: all ``refit_images`` of one layer's activations, the original's outputs at up to 65,536
    positions of each layer still to come, and, where bits are decided, the layers' weights in every form (float32),
    1 GB of Hessians (or one layer's, where that is more) and up to 4 GB of recorded activations. An executor's
    processes each take such nine matrices while options are looked at, and one in float32 in the search at the end.

    Args:
        task: its model, train data to calibrate on, and ``ignored_layers`` that keep floats.
        bits: of every layer; or
        average_bits: over all layers, scales and places of zeros included: the forms are decided layer by layer.
        forms: that a layer may have then.
        calibration: samples for the energy, and as many others, that nothing is fitted to, to judge choices on.
        refit_images: samples for the re-fit and for the layers' Hessians, those of the energy among them.
        sweeps: of the search in each layer.
        group_size: columns that share a scale, in forms that do not say it themselves; None: a whole row does.
        solver: of the choice.
        seed: of the search and the solver.
        executor: maps over layers and their forms while options are looked at, and over each layer's rows (or a
            convolution's groups) at the end, where a layer waits for those before it. Give one of processes, see
            `coldpress.executors.open_executor`; the result does not depend on it.
        progress: called with (step, done, in all).
        decided: what an earlier run decided, with the same arguments.

    Raises:
        TaskError: neither or both of ``bits`` and ``average_bits`` are given, or there is only one sample.
        SpaceError: no layer can be rounded.
        BudgetError: no choice of forms has so few bits; the message says how few there can be.
        SurgeryError: bits are out of range, or weights or inputs are not finite.
    """
    check_asked(bits, average_bits)
    model, told = task.model, teller(progress)
    inputs, judges = fitted_and_judges(task, calibration, refit_images)
    names = roundable(task)
    if bits is not None:
        chosen: Mapping[str, Form] = {name: Form(bits, group_size=group_size) for name in names}
    else:
        assert average_bits is not None
        decided = decided or decide_forms(
            task, average_bits, calibration, refit_images, forms=forms, group_size=group_size, solver=solver,
            seed=seed, executor=executor, progress=progress,
        )  # fmt: skip
        chosen = decided.forms
    student = copy.deepcopy(model)
    layers = round_layers(
        student, model, inputs, chosen, sweeps=sweeps, seed=seed, executor=executor, progress=told("round layers")
    )
    student = nearer(model, student, inputs, judges)
    weights = {name: math.prod(matrix(model, name)) for name in names}
    size = sum(packed_bytes(layers[name], chosen[name]) if name in layers else 4 * weights[name] for name in names)
    average, structure = 8 * size / sum(weights.values()), describe_changes(model, student)
    kl = apart(model, student, judges)
    return RoundedNetwork(student, layers, dict(chosen), average, size, structure, kl, decided)


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
