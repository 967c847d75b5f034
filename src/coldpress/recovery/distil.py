"""Distillation: a compressed network learns from the outputs of the original (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.errors import TaskError
from coldpress.network import logits_of
from coldpress.recovery.hints import Hints
from coldpress.recovery.precision import autocast, choose_device, place_model
from coldpress.recovery.settings import Settings
from coldpress.recovery.train import Epoch, History, Loss, Progress, fit
from coldpress.task import Task


def distil(
    student: nn.Module,
    teacher: nn.Module,
    task: Task,
    settings: Settings | None = None,
    *,
    temperature: float = 4.0,
    weight: float = 0.9,
    hints: Mapping[str, Tensor] | None = None,
    hint_weight: float = 1.0,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train ``student`` in place toward labels and the teacher's outputs; see `fit` for everything else.

    The loss is ``(1 - weight) * task loss + weight * T^2 * KL(teacher || student)``, both at temperature T, and with
    hints ``hint_weight`` times the relative squared error of the activations that they name.

    Args:
        student: the compressed network.
        teacher: the original; it is not changed.
        task: data, metric and loss.
        settings: how to train.
        temperature: T, above 0.
        weight: of the teacher against the labels, in [0, 1].
        hints: layers whose inputs are compared, with the teacher's channels that remain (see `stream_inputs`).
        hint_weight: of these comparisons; 0 or more.
        checkpoint_dir, progress, on_epoch: as in `fit`.

    Raises:
        TaskError: temperature or weight is out of range, or `fit` refuses the data.
    """
    if not temperature > 0:
        raise TaskError(f"temperature is {temperature}; it must be above 0")
    if not 0 <= weight <= 1:
        raise TaskError(f"weight is {weight}; it must be between 0 (labels only) and 1 (teacher only)")
    if not 0 <= hint_weight < math.inf:
        raise TaskError(f"hint_weight is {hint_weight}; it must be 0 or more")
    settings = settings or Settings()
    teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
    place_model(teacher, choose_device(settings.device))
    hinted = bool(hints) and hint_weight > 0
    with Hints(student, teacher, hints or {}) if hinted else nullcontext() as inside:
        outputs = distillation_loss(teacher, task, settings, temperature, weight)

        def with_hints(logits: Tensor, inputs: tuple[Tensor, ...], labels: Tensor) -> Tensor:
            return outputs(logits, inputs, labels) + (hint_weight * inside.distance() if inside is not None else 0.0)

        return fit(
            student,
            task,
            settings,
            loss=with_hints,
            loss_key=f"distil {temperature} {weight}" + (f" {hint_weight} {sorted(hints or ())}" if hinted else ""),
            checkpoint_dir=checkpoint_dir,
            progress=progress,
            on_epoch=on_epoch,
        )


def distillation_loss(teacher: nn.Module, task: Task, settings: Settings, temperature: float, weight: float) -> Loss:
    """The loss on the outputs, for `fit`; the teacher must be where the student is trained."""
    forward = autocast(choose_device(settings.device), settings.precision)

    def loss(logits: Tensor, inputs: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        with torch.no_grad(), forward():
            target = logits_of(teacher(*inputs))
        target = F.log_softmax(target.float() / temperature, dim=1)
        log_p = F.log_softmax(logits / temperature, dim=1)
        distance = temperature**2 * F.kl_div(log_p, target, reduction="batchmean", log_target=True)
        return weight * distance + (1 - weight) * task.loss(logits, labels)

    return loss
