"""Distillation: a compressed network learns from the outputs of the original (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.errors import TaskError
from coldpress.recovery.answers import Answer, answering, remembering
from coldpress.recovery.attention import AttentionHints, common_attention
from coldpress.recovery.hints import Hints
from coldpress.recovery.precision import choose_device, place_model
from coldpress.recovery.projections import Projections
from coldpress.recovery.settings import Settings
from coldpress.recovery.train import Epoch, History, Loss, Progress, fit
from coldpress.task import Task

FITTED = 64
"""Samples that projections are fitted on at first."""


def distil(
    student: nn.Module,
    teacher: nn.Module,
    task: Task,
    settings: Settings | None = None,
    *,
    temperature: float = 4.0,
    weight: float = 0.9,
    hints: Mapping[str, Tensor | None] | None = None,
    hint_weight: float = 1.0,
    attention_weight: float = 0.0,
    heads: Mapping[str, Tensor] | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train ``student`` in place toward labels and the teacher's outputs; see `fit` for everything else.

    The loss is ``(1 - weight) * task loss + weight * T^2 * KL(teacher || student)``, both at temperature T, with hints
    ``hint_weight`` times the relative squared error of the activations that they name, and ``attention_weight`` times
    the divergence of the student's attention from the teacher's, in the modules that attend in both.

    Args:
        student: the compressed network.
        teacher: the original; it is not changed.
        task: data, metric and loss.
        settings: how to train.
        temperature: T, above 0.
        weight: of the teacher against the labels, in [0, 1].
        hints: layers whose inputs are compared, with the teacher's channels that remain (see `stream_inputs`); with
            None a linear projection to the teacher's channels is learned along, and thrown away.
        hint_weight: of these comparisons; 0 or more.
        attention_weight: of attention (see `attention_distance`); 0 or more.
        heads: the teacher's heads that remain, by module (see `kept_heads`); what is not named is compared head by head
            where both networks have as many, else by relations.
        checkpoint_dir, progress, on_epoch: as in `fit`.

    Raises:
        TaskError: temperature or a weight is out of range, a hint cannot be projected, there is no attention to be
            taught, or `fit` refuses the data.
    """
    if not temperature > 0:
        raise TaskError(f"temperature is {temperature}; it must be above 0")
    if not 0 <= weight <= 1:
        raise TaskError(f"weight is {weight}; it must be between 0 (labels only) and 1 (teacher only)")
    for name, value in (("hint_weight", hint_weight), ("attention_weight", attention_weight)):
        if not 0 <= value < math.inf:
            raise TaskError(f"{name} is {value}; it must be 0 or more")
    settings = settings or Settings()
    teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
    modules = common_attention(student, teacher, task.example_inputs) if attention_weight > 0 else ()
    hints = dict(hints or {}) if hint_weight > 0 else {}
    sample = task.calibration(FITTED)[0] if any(rows is None for rows in hints.values()) else ()
    projections = Projections(student, teacher, hints, sample)
    place_model(teacher, choose_device(settings.device))
    answer = answering(teacher, settings)
    if not hints and not modules:  # which look inside it, batch by batch
        answer = remembering(answer, task, settings)
    outputs = distillation_loss(answer, task, temperature, weight)
    inside = Hints(student, teacher, hints, projections)
    attention = AttentionHints(student, teacher, modules, heads or {})

    def loss(logits: Tensor, inputs: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        found = outputs(logits, inputs, labels)
        return found + hint_weight * inside.distance() + attention_weight * attention.distance()

    key = f"distil {temperature} {weight}"
    if hints:
        key += f" {hint_weight} {sorted(hints)}"
    if projections.names:
        key += f" projected {sorted(projections.names)}"
    if modules:
        key += f" attention {attention_weight}"
    with inside, attention:
        return fit(
            student,
            task,
            settings,
            loss=loss,
            loss_key=key,
            trained_along=projections,
            checkpoint_dir=checkpoint_dir,
            progress=progress,
            on_epoch=on_epoch,
        )


def distillation_loss(answer: Answer, task: Task, temperature: float, weight: float) -> Loss:
    """The loss on the outputs, for `fit`; ``answer`` gives the teacher's to a batch."""

    def loss(logits: Tensor, inputs: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        target = F.log_softmax(answer(inputs) / temperature, dim=1)
        log_p = F.log_softmax(logits / temperature, dim=1)
        distance = temperature**2 * F.kl_div(log_p, target, reduction="batchmean", log_target=True)
        return weight * distance + (1 - weight) * task.loss(logits, labels)

    return loss
