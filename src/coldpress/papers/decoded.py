"""What samples of filters and bits make of a network: decoded, re-fitted, trained; packed, loaded back and judged."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from coldpress.artifact import load
from coldpress.errors import BudgetError
from coldpress.filters import FilterSpace
from coldpress.packed import pack_weights
from coldpress.recovery import Settings, distil, recalibrate
from coldpress.recovery.rounded import rounded
from coldpress.surgery.decode import Decoded, decode
from coldpress.task import Task

DECODED, REFITTED, TRAINED = "as decoded", "re-fitted", "trained"


@dataclass(frozen=True)
class Judged:
    """A network as its packed file holds it.

    Attributes:
        accuracy: on the data that results are reported on.
        interval: 95 % Wilson interval.
        bytes: of the file.
        level_bytes: of the weights in it, without scales.
        loaded_equal: whether every tensor that is loaded equals the one that was packed.
        seconds: of what was done to the network since the stage before.
    """

    accuracy: float
    interval: tuple[float, float]
    bytes: int
    level_bytes: int
    loaded_equal: bool
    seconds: float = 0.0


def judge(task: Task, decoded: Decoded, seconds: float = 0.0) -> Judged:
    """Pack a network, load it into the task's, and evaluate what was loaded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.safetensors"
        size = pack_weights(decoded.model, decoded.bits, path, decoded.plan.structure)
        loaded = load(path, lambda: copy.deepcopy(task.model))
    packed = decoded.model.state_dict()
    same = all(torch.equal(tensor, packed[name]) for name, tensor in loaded.state_dict().items())
    found = task.evaluate(loaded)
    return Judged(found.accuracy, found.accuracy_interval, size.total, size.levels, same, seconds)


def carried_out(
    task: Task,
    space: FilterSpace,
    sample: dict[str, int],
    refit_images: int,
    training: Settings | None = None,
    lessons: Task | None = None,
) -> Iterator[tuple[str, Decoded, float]]:
    """Stages of a network, each with its name and the seconds that it took; of two stages one may be the same object.

    As published, nothing but the filters and the bits changes; then the other weights are fitted by least squares;
    then they learn from the original, on their grids.

    Args:
        task: the original.
        space: its filters and layers.
        sample: 0 or 1 for each of the space's variables.
        refit_images: samples for the fit.
        training: how to train; None, or no epochs, leaves that stage out.
        lessons: what to train on, by default the task.
    """
    begin = time.perf_counter()
    yield DECODED, decode(task.model, space, sample), time.perf_counter() - begin
    begin = time.perf_counter()
    inputs, _ = task.calibration(refit_images)
    refitted = decode(task.model, space, sample, inputs)
    recalibrate(refitted.model, tuple(inputs))
    yield REFITTED, refitted, time.perf_counter() - begin
    if training is not None and training.epochs:
        begin = time.perf_counter()
        with rounded(refitted.model, refitted.bits):
            distil(refitted.model, task.model, lessons or task, training)
        yield TRAINED, refitted, time.perf_counter() - begin


def uniform_bits(space: FilterSpace, rate: float) -> dict[str, int]:
    """The sample in which no filter goes, and all layers have the most bits, all the same, that meet a rate.

    Raises:
        BudgetError: they would be fewer than the space allows.
    """
    bits = math.floor(space.most_bits * (1.0 - rate) + 1e-9)
    if bits < space.least_bits:
        most = 1.0 - space.least_bits / space.most_bits
        raise BudgetError(
            f"a reduction of {rate:g} cannot be reached by bits alone: at {space.least_bits} everywhere it is {most:g}"
        )
    return space.encode([0] * len(space.filters), [space.most_bits - bits] * len(space.layers))
