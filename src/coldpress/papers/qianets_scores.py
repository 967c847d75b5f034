"""How important channels are, by what QIANets trains for it (attention), and by what needs no training (Fisher)."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from coldpress.energy.fisher import fisher_importance
from coldpress.recovery import Settings, fit
from coldpress.recovery.train import Progress
from coldpress.space import channel_groups
from coldpress.surgery.eca import eca_importance, insert_eca
from coldpress.task import Task


def attention_scores(
    task: Task, kernel: int | None, images: int, settings: Settings, progress: Progress | None = None
) -> dict[str, Tensor]:
    """Scores of channels, by group, of attention put behind every BatchNorm of the model and trained with it.

    Args:
        task: its model, which is not changed, and its data.
        kernel: of the attention, odd; None: by the paper's rule.
        images: of calibration, on which the scores are means.
        settings, progress: of the training, see `coldpress.recovery.fit`.

    Returns:
        By group, ``(atoms,)`` float64.
    """
    model = copy.deepcopy(task.model)
    groups = list(channel_groups(model, task.example_inputs)[0].values())
    norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    insert_eca(model, norms, task.example_inputs, kernel)
    fit(model, task, settings, progress=progress)
    return eca_importance(model, groups, task.calibration(images)[0], {f"{name}.1": name for name in norms})


def fisher_scores(task: Task, images: int) -> dict[str, Tensor]:
    """What the loss grows by where a channel goes alone, by group, ``(atoms,)`` float64, on calibration images."""
    groups = list(channel_groups(task.model, task.example_inputs)[0].values())
    return fisher_importance(task.model, task.calibration(images)[0], groups, seed=task.seed)
