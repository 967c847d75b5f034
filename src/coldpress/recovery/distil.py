"""Distillation: a compressed network learns from the outputs of the original (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.data import first_tensor
from coldpress.errors import TaskError
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
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train ``student`` in place toward labels and the teacher's outputs; see `fit` for everything else.

    The loss is ``(1 - weight) * task loss + weight * T^2 * KL(teacher || student)``, both at temperature T.

    Args:
        student: the compressed network.
        teacher: the original; it is not changed.
        task: data, metric and loss.
        settings: how to train.
        temperature: T, above 0.
        weight: of the teacher against the labels, in [0, 1].
        checkpoint_dir, progress, on_epoch: as in `fit`.

    Raises:
        TaskError: temperature or weight is out of range, or `fit` refuses the data.
    """
    if not temperature > 0:
        raise TaskError(f"temperature is {temperature}; it must be above 0")
    if not 0 <= weight <= 1:
        raise TaskError(f"weight is {weight}; it must be between 0 (labels only) and 1 (teacher only)")
    settings = settings or Settings()
    loss = distillation_loss(teacher, task, settings, temperature, weight)
    return fit(
        student,
        task,
        settings,
        loss=loss,
        loss_key=f"distil {temperature} {weight}",
        checkpoint_dir=checkpoint_dir,
        progress=progress,
        on_epoch=on_epoch,
    )


def distillation_loss(teacher: nn.Module, task: Task, settings: Settings, temperature: float, weight: float) -> Loss:
    """The loss of `distil` for `fit`; it works on a copy of the teacher."""
    device = choose_device(settings.device)
    forward = autocast(device, settings.precision)
    teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
    place_model(teacher, device)

    def loss(logits: Tensor, inputs: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        with torch.no_grad(), forward():
            target = first_tensor(teacher(*inputs))
        target = F.log_softmax(target.float() / temperature, dim=1)
        log_p = F.log_softmax(logits / temperature, dim=1)
        distance = temperature**2 * F.kl_div(log_p, target, reduction="batchmean", log_target=True)
        return weight * distance + (1 - weight) * task.loss(logits, labels)

    return loss
