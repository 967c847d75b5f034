"""Data sets held in memory, and one way to read any data set in batches.

A batch is ``(x, y)``, or ``(x1, x2, ..., y)`` for a model with several inputs; inside coldpress it is
``(inputs, labels)`` with ``inputs`` a tuple of tensors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from coldpress.errors import TaskError

Batch = tuple[tuple[Tensor, ...], Tensor]


class MemoryData(Dataset[Any], ABC):
    """A labelled data set in memory, which makes its own batches.

    Attributes:
        labels: ``(samples,)`` int64.
        classes: class names, by label.
        ragged: whether samples differ in length, so that each batch has its own.
        augmented: whether training sees each sample changed anew.
    """

    labels: Tensor
    classes: tuple[str, ...]
    ragged = False

    @property
    def augmented(self) -> bool:
        return False

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def subset(self, indices: Tensor | Sequence[int]) -> Self:
        """The samples at ``indices`` as a data set of their own."""

    @abstractmethod
    def joined(self, other: Self) -> Self:
        """The samples of both, in this data set's form."""

    @abstractmethod
    def keys(self) -> list[Hashable]:
        """What each sample's input is, value for value: equal inputs have equal keys."""

    def families(self) -> Tensor | None:
        """Which samples must not be split up, ``(samples,)``: the row of the whole that each is part of, a whole's own.

        None where each stands for itself.
        """
        return None

    def alike(self) -> Tensor | None:
        """The samples in an order in which those of like size are neighbours, ``(samples,)``; None where all are."""
        return None

    def example(self) -> tuple[Tensor, ...]:
        """Inputs of one sample that stands for all, each ``(1, ...)``."""
        return tuple(x[:1] for x in next(self.batches(1))[:-1])

    @abstractmethod
    def batches(
        self, batch_size: int, shuffle: bool = False, generator: torch.Generator | None = None, augment: bool = False
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield ``(input, ..., labels (batch,))``."""

    def without(self, other: Self) -> Self:
        """The samples whose inputs are not, value for value, in ``other``."""
        theirs = set(other.keys())
        return self.subset([i for i, key in enumerate(self.keys()) if key not in theirs])


@dataclass(frozen=True, eq=False)
class TensorData(MemoryData):
    """A labelled image data set in memory: bytes are kept as bytes and normalised batch by batch.

    Attributes:
        inputs: ``(samples, channels, height, width)``, uint8 (scaled by 1/255 when read) or floating point.
        labels: ``(samples,)`` int64.
        classes: class names, by label.
        mean, std: per channel, of the scaled inputs; empty leaves them as they are.
        flip: augmentation mirrors images left to right half of the time.
        pad: augmentation shifts images by up to so many pixels; an image goes on mirrored beyond its border, since no
            test image has a black one.
        size: side in pixels that images are resized to as they are read; None leaves them.
    """

    inputs: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    flip: bool = False
    pad: int = 0
    size: int | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels):
            raise TaskError(f"{len(self.inputs)} inputs but {len(self.labels)} labels; they must be as many")

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self._normalise(self.inputs[index][None])[0], self.labels[index]

    def subset(self, indices: Tensor | Sequence[int]) -> TensorData:
        """The samples at ``indices`` as a data set of their own."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        return replace(self, inputs=self.inputs[rows], labels=self.labels[rows])

    def joined(self, other: TensorData) -> TensorData:
        """The samples of both, in this data set's form."""
        return replace(
            self, inputs=torch.cat([self.inputs, other.inputs]), labels=torch.cat([self.labels, other.labels])
        )

    def keys(self) -> list[Hashable]:
        return [row.tobytes() for row in self.inputs.contiguous().numpy()]

    def batches(
        self,
        batch_size: int,
        shuffle: bool = False,
        generator: torch.Generator | None = None,
        augment: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(inputs (batch, channels, height, width) float32, labels (batch,))``, augmented as one tensor."""
        order = torch.randperm(len(self), generator=generator) if shuffle else torch.arange(len(self))
        for rows in torch.split(order, batch_size):
            inputs = self.inputs[rows]
            if augment:
                inputs = self._augment(inputs, generator)
            yield self._normalise(inputs), self.labels[rows]

    @property
    def augmented(self) -> bool:
        return self.flip or self.pad > 0

    def _normalise(self, inputs: Tensor) -> Tensor:
        scaled = inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs
        if self.size is not None and scaled.shape[-2:] != (self.size, self.size):
            scaled = F.interpolate(scaled, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        if not self.mean:
            return scaled
        shape = (1, -1) + (1,) * (scaled.dim() - 2)
        return (scaled - torch.tensor(self.mean).view(shape)) / torch.tensor(self.std).view(shape)

    def _augment(self, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        count, _, height, width = inputs.shape
        if self.pad:
            # Beyond its borders an image is continued by its mirror image.
            tops, lefts = torch.randint(-self.pad, self.pad + 1, (2, count), generator=generator)
            rows = _mirrored(tops[:, None] + torch.arange(height), height)[:, :, None]
            columns = _mirrored(lefts[:, None] + torch.arange(width), width)[:, None, :]
            inputs = inputs.permute(0, 2, 3, 1)[torch.arange(count)[:, None, None], rows, columns].permute(0, 3, 1, 2)
        if self.flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
            inputs = torch.where(mirrored[:, None, None, None], inputs.flip(3), inputs)
        return inputs


def _mirrored(positions: Tensor, size: int) -> Tensor:
    """Positions outside ``[0, size)`` reflected at the border pixels."""
    positions = positions.abs()
    return torch.where(positions >= size, 2 * (size - 1) - positions, positions).clamp(0, size - 1)


def example_of(data: Any) -> tuple[Tensor, ...]:
    """Inputs of one sample of any data set, each ``(1, ...)``; of texts, one as long as nearly all."""
    if isinstance(data, MemoryData):
        return data.example()
    inputs, _ = next(read_batches(data, 1))
    return tuple(x[:1] for x in inputs)


def read_batches(
    data: Any,
    batch_size: int,
    *,
    shuffle: bool = False,
    generator: torch.Generator | None = None,
    augment: bool = False,
) -> Iterator[Batch]:
    """Read any data set in batches: one in memory, a torch Dataset, a DataLoader, or an iterable of batches.

    A DataLoader or an iterable is read as it is: its own batch size and order hold.

    Raises:
        TaskError: a batch is not ``(x, y)`` or ``(x1, x2, ..., y)`` of tensors.
    """
    batches: Iterable[Any]
    if isinstance(data, MemoryData):
        batches = data.batches(batch_size, shuffle, generator, augment)
    elif isinstance(data, Dataset):
        # A generator of its own in any case: a DataLoader without one advances the global state.
        own = generator if generator is not None else torch.Generator()
        batches = DataLoader(data, batch_size=batch_size, shuffle=shuffle, generator=own)
    else:
        batches = data
    for batch in batches:
        yield split_batch(batch)


def split_batch(batch: Any) -> Batch:
    """``(x1, ..., y)`` as ``((x1, ...), y)``. Raises TaskError when it is not a tuple or list of tensors."""
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise TaskError(
            f"a batch is a {type(batch).__name__}; it must be a tuple (inputs, labels), "
            "or (input 1, input 2, ..., labels)"
        )
    if not all(isinstance(part, Tensor) for part in batch):
        kinds = ", ".join(type(part).__name__ for part in batch)
        raise TaskError(
            f"a batch holds ({kinds}); all parts must be tensors: give the data set a transform or collate_fn"
        )
    *inputs, labels = batch
    return tuple(inputs), labels
