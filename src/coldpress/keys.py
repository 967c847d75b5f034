"""What names a run, and what names its measurements: who has the same key may take up what is there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from coldpress import __version__
from coldpress.data import Batch
from coldpress.recipe import Recipe
from coldpress.runtime.devices import device
from coldpress.task import Split, Task


def run_key(task: Task, recipe: Recipe) -> str:
    """Names what the steps of a run depend on: the recipe, the model's weights and the calibration data."""
    return _key(recipe.key(), task)


def measurements_key(task: Task, recipe: Recipe) -> str:
    """Names what prices and sensitivities depend on, coldpress' version too: not budgets, nor how a plan is found."""
    machine = device(recipe.threads).fingerprint if recipe.device == "host" else recipe.device
    return _key(f"{recipe.measurements_key()} {machine} {__version__}", task)


def digests(task: Task) -> dict[str, str]:
    """What tells a task's weights from others, and its data, wherever the files are.

    Of train a draw is looked at, of validation and test the first 10,000 samples.
    """
    others: tuple[Split, ...] = ("validation", "test")
    read = [islice(task.batches(split, 250), 40) for split in others if getattr(task, split) is not None]
    data = chain.from_iterable(map(_values, chain([task.calibration(256)], *read)))
    return {"weights_digest": _digest(_weights(task)), "data_digest": _digest(data)}


def _key(settings: str, task: Task) -> str:
    about = [settings.encode()], _weights(task), [f"{task.metric_name} {task.loss_name}".encode()]
    samples = [task.calibration(8)]
    if task.validation is not None:
        samples.append(next(task.batches("validation", 8)))
    return _digest(chain(*about, *map(_values, samples)))


def _weights(task: Task) -> Iterator[bytes]:
    for name, tensor in task.model.state_dict().items():
        yield name.encode()
        yield tensor.detach().cpu().contiguous().numpy().tobytes()


def _values(samples: Batch) -> Iterator[bytes]:
    inputs, labels = samples
    return (tensor.contiguous().numpy().tobytes() for tensor in (*inputs, labels))


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]
