"""What the original answers to the training data, computed once where every epoch asks the same of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from hashlib import blake2b

import torch
from torch import Tensor, nn

from coldpress.data import MemoryData, read_batches
from coldpress.network import logits_of, token_mask
from coldpress.recovery.parallel import processes
from coldpress.recovery.precision import autocast, choose_device, place
from coldpress.recovery.settings import Settings
from coldpress.task import Task

logger = logging.getLogger(__name__)

Answer = Callable[[tuple[Tensor, ...]], Tensor]

LARGEST = 2**24
"""Numbers that are kept at most."""


def answering(teacher: nn.Module, settings: Settings) -> Answer:
    """The original's outputs ``(batch, classes)`` to a batch on its device, computed at the precision of training."""
    forward = autocast(choose_device(settings.device), settings.precision)

    def answer(inputs: tuple[Tensor, ...]) -> Tensor:
        with torch.no_grad(), forward():
            return logits_of(teacher(*inputs)).float()

    return answer


def remembering(answer: Answer, task: Task, settings: Settings) -> Answer:
    """``answer``, asked once for each sample of train where more than one epoch asks; as it is where that cannot be.

    That cannot be of images that are augmented or mixed, of data that are no `MemoryData`, of the logits of every
    token, of more than `LARGEST` numbers, and of several processes. All is asked at first, in the data's order by
    length: a run that was resumed has the very same answers. A sample that is not found, by its value, is asked.
    """
    data = task.data("train")
    if (
        settings.epochs < 2
        or settings.mixup
        or not isinstance(data, MemoryData)
        or data.augmented
        or data.labels.dim() > 1
        or len(data) * task.num_classes > LARGEST
        or processes().count > 1
        or (choose_device(settings.device).type != "cpu" and not data.ragged)  # they would come back to be recognised
    ):
        return answer
    device, known = choose_device(settings.device), dict[bytes, Tensor]()
    order = data.alike()
    logger.info("the original answers %d training samples, once for all epochs", len(data))
    for inputs, _ in read_batches(data if order is None else data.subset(order), settings.batch_size):
        logits = answer(tuple(place(x, device) for x in inputs))
        known.update(zip(_keys(inputs), logits.cpu().unbind()))

    def recall(inputs: tuple[Tensor, ...]) -> Tensor:
        found = [known.get(key) for key in _keys(inputs)]
        rows = [row for row in found if row is not None]
        return torch.stack(rows).to(inputs[0].device) if len(rows) == len(found) else answer(inputs)

    return recall


def _keys(inputs: Sequence[Tensor]) -> list[bytes]:
    """A digest of each sample's values, without the tokens that its batch has filled up."""
    parts = [x.cpu().contiguous().numpy() for x in inputs]
    mask = token_mask(inputs)
    lengths = [None] * len(parts[0]) if mask is None else mask.sum(1).tolist()
    cut = [mask is not None and x.shape == mask.shape and not x.is_floating_point() for x in inputs]
    return [
        blake2b(
            b"".join((x[i, :length] if short else x[i]).tobytes() for x, short in zip(parts, cut)), digest_size=16
        ).digest()
        for i, length in enumerate(lengths)
    ]
