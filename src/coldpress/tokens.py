"""Texts as tokens, held in memory and padded batch by batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from coldpress.data import MemoryData
from coldpress.errors import TaskError

POOL = 50
"""Batches whose texts are sorted by length together."""


@dataclass(frozen=True, eq=False)
class TokenData(MemoryData):
    """Labelled token sequences of any length; a batch is as long as its longest.

    A batch is ``(ids, mask, labels)``, or ``(ids, mask, types, labels)`` where there are token types: int64, each
    ``(batch, tokens)`` but the labels.

    Attributes:
        ids: token numbers, ``(tokens,)`` a sample.
        labels: ``(samples,)`` int64.
        classes: class names, by label.
        types: which of two texts a token belongs to, ``(tokens,)`` a sample; empty where there is one text.
        padding: the token that fills up.
    """

    ids: tuple[Tensor, ...]
    labels: Tensor
    classes: tuple[str, ...] = ()
    types: tuple[Tensor, ...] = ()
    padding: int = 0
    ragged = True

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.labels) or len(self.types) not in (0, len(self.ids)):
            raise TaskError(f"{len(self.ids)} texts, {len(self.labels)} labels, {len(self.types)} rows of token types")

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        types = (self.types[index],) if self.types else ()
        return (self.ids[index], torch.ones_like(self.ids[index]), *types, self.labels[index])

    def subset(self, indices: Tensor | Sequence[int]) -> TokenData:
        """The samples at ``indices`` as a data set of their own."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        chosen = rows.tolist()
        types = tuple(self.types[i] for i in chosen) if self.types else ()
        return replace(self, ids=tuple(self.ids[i] for i in chosen), labels=self.labels[rows], types=types)

    def joined(self, other: TokenData) -> TokenData:
        """The samples of both, in this data set's form."""
        labels = torch.cat([self.labels, other.labels])
        return replace(self, ids=self.ids + other.ids, labels=labels, types=self.types + other.types)

    def keys(self) -> list[Hashable]:
        return [tuple(row.tolist()) for row in self.ids]

    def alike(self) -> Tensor:
        """The samples by length."""
        return torch.tensor([len(row) for row in self.ids]).argsort(stable=True)

    def families(self) -> Tensor | None:
        """The row of the longer text that each is part of, ``(samples,)``; None where none is part of another."""
        return self._families

    @cached_property
    def _families(self) -> Tensor | None:
        found = torch.tensor(parents([row.tolist() for row in self.ids]))
        return None if torch.equal(found, torch.arange(len(found))) else found

    def example(self, share: float = 0.95, tokens: int | None = None) -> tuple[Tensor, ...]:
        """Inputs of one sample, at least as long as ``share`` of all: what a runtime is timed on.

        With ``tokens`` its tokens are repeated, or cut off, to that many.
        """
        lengths = torch.tensor([len(row) for row in self.ids])
        index = int(lengths.argsort()[min(int(share * len(lengths)), len(lengths) - 1)])
        parts = [part[None].long() for part in self[index][:-1]]
        if tokens is not None:
            parts = [part.repeat(1, -(-tokens // part.shape[1]))[:, :tokens].contiguous() for part in parts]
        return tuple(parts)

    def batches(
        self, batch_size: int, shuffle: bool = False, generator: torch.Generator | None = None, augment: bool = False
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield ``(ids, mask, ..., labels)``; nothing is augmented.

        Shuffled batches are of texts of about one length: those of `POOL` batches at a time are sorted, and the
        batches come in random order. Of short texts among a few long ones most of a batch is filling otherwise.
        """
        order = torch.randperm(len(self), generator=generator) if shuffle else torch.arange(len(self))
        batches = torch.split(order, batch_size)
        if shuffle:
            lengths = torch.tensor([len(row) for row in self.ids])
            pools = [pool[lengths[pool].argsort(stable=True)] for pool in torch.split(order, POOL * batch_size)]
            sized = torch.split(torch.cat(pools), batch_size)
            batches = tuple(sized[i] for i in torch.randperm(len(sized), generator=generator))
        for rows in batches:
            chosen = rows.tolist()
            ids = [self.ids[i].long() for i in chosen]
            parts = [pad_sequence(ids, True, self.padding), pad_sequence([torch.ones_like(x) for x in ids], True)]
            if self.types:
                parts.append(pad_sequence([self.types[i].long() for i in chosen], True))
            yield (*parts, self.labels[rows])


def parents(texts: Sequence[Sequence[int]]) -> list[int]:
    """For each text the longest one that holds it as it is, from some token on; itself where there is none.

    The first and the last token do not count where all texts begin and end alike (as tokenizers mark them).

    >>> parents([[1, 5, 6, 9], [1, 4, 5, 6, 7, 9], [1, 6, 5, 9]])
    [1, 1, 2]
    """
    ends = slice(1, -1) if len({(row[0], row[-1]) for row in texts if row}) == 1 else slice(None)
    rows = [tuple(row[ends]) for row in texts]
    written = [f" {' '.join(map(str, row))} " for row in rows]
    holders: dict[int, list[int]] = {}  # of each token, the texts so far that are part of no other
    found = list(range(len(rows)))
    for i in sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i)):
        rarest = min((holders.get(token, []) for token in rows[i]), key=len, default=[])
        found[i] = next((j for j in rarest if written[i] in written[j]), i)
        if found[i] == i:
            for token in set(rows[i]):
                holders.setdefault(token, []).append(i)
    return found
