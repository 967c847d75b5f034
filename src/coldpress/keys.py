"""What names a run, and what names its measurements: who has the same key may take up what is there."""

from __future__ import annotations

import hashlib

from coldpress import __version__
from coldpress.recipe import Recipe
from coldpress.runtime.devices import device
from coldpress.task import Task


def run_key(task: Task, recipe: Recipe) -> str:
    """Names what the steps of a run depend on: the recipe, the model's weights and the calibration data."""
    return _key(recipe.key(), task)


def measurements_key(task: Task, recipe: Recipe) -> str:
    """Names what prices and sensitivities depend on, coldpress' version too: not budgets, nor how a plan is found."""
    machine = device(recipe.threads).fingerprint if recipe.device == "host" else recipe.device
    return _key(f"{recipe.measurements_key()} {machine} {__version__}", task)


def _key(settings: str, task: Task) -> str:
    digest = hashlib.sha256(settings.encode())
    for name, tensor in task.model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest.update(f"{task.metric_name} {task.loss_name}".encode())
    samples = [task.calibration(8)]
    if task.validation is not None:
        samples.append(next(task.batches("validation", 8)))
    for inputs, labels in samples:
        for tensor in (*inputs, labels):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
