"""Text as windows of tokens, each of which is to be predicted from those before it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from coldpress.data import MemoryData
from coldpress.errors import TaskError


@dataclass(frozen=True, eq=False)
class WindowData(MemoryData):
    """Windows of a text, for a decoder; a batch is ``(ids, mask, labels)``, int64, each ``(batch, tokens)``.

    Attributes:
        ids: token numbers, ``(windows, tokens)``.
        labels: the token that follows each, ``(windows, tokens)``.
        classes: none; a vocabulary has no names here.
    """

    ids: Tensor
    labels: Tensor
    classes: tuple[str, ...] = ()
    ragged = True

    @classmethod
    def of(cls, tokens: Tensor, length: int) -> WindowData:
        """Consecutive windows of a text's tokens ``(tokens,)``; what is left over at its end is left out.

        Raises:
            TaskError: there are fewer tokens than one window and the token after it.
        """
        count = (len(tokens) - 1) // length
        if count < 1:
            raise TaskError(
                f"a text of {len(tokens)} tokens holds no window of {length}: give more text, or fewer --tokens"
            )
        shape = (count, length)
        return cls(tokens[: count * length].view(shape).long(), tokens[1 : count * length + 1].view(shape).long())

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return self.ids[index], torch.ones_like(self.ids[index]), self.labels[index]

    def subset(self, indices: Tensor | Sequence[int]) -> WindowData:
        """The windows at ``indices`` as a data set of their own."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        return replace(self, ids=self.ids[rows], labels=self.labels[rows])

    def joined(self, other: WindowData) -> WindowData:
        """The windows of both."""
        return replace(self, ids=torch.cat([self.ids, other.ids]), labels=torch.cat([self.labels, other.labels]))

    def keys(self) -> list[Hashable]:
        return [row.tobytes() for row in self.ids.contiguous().numpy()]

    def example(self, tokens: int | None = None) -> tuple[Tensor, ...]:
        """Ids and mask of one window, ``(1, tokens)`` each; with ``tokens`` repeated, or cut off, to that many."""
        ids = self.ids[:1]
        if tokens is not None:
            ids = ids.repeat(1, -(-tokens // ids.shape[1]))[:, :tokens].contiguous()
        return ids, torch.ones_like(ids)

    def batches(
        self, batch_size: int, shuffle: bool = False, generator: torch.Generator | None = None, augment: bool = False
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield ``(ids, mask, labels)``; nothing is augmented."""
        order = torch.randperm(len(self), generator=generator) if shuffle else torch.arange(len(self))
        for rows in torch.split(order, batch_size):
            yield self.ids[rows], torch.ones_like(self.ids[rows]), self.labels[rows]
