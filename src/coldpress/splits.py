"""Splits of data sets: readable, disjoint, split off by a seed, and drawn from by a seed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)

from coldpress.data import Batch, MemoryData, read_batches, split_batch
from coldpress.errors import TaskError

HASHED_SAMPLES = 10_000  # of a data set that is not in memory, so that a large image folder is not read as a whole
VALIDATION_PART, VALIDATION_MOST = 0.1, 5_000


def check_readable(split: str, data: Any) -> None:
    """Raise TaskError when the data cannot be read in batches twice, or holds no sample."""
    if not isinstance(data, Dataset | DataLoader) and (not isinstance(data, Iterable) or isinstance(data, Iterator)):
        raise TaskError(
            f"{split} data is a {type(data).__name__}; it must be a torch Dataset, a DataLoader or a list of batches, "
            "since it is read more than once"
        )
    if isinstance(data, Dataset) and not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        raise TaskError(f"{split} data is an iterable-style {type(data).__name__}; wrap it in a DataLoader")
    batch = next(read_batches(data, 2), None)
    if batch is None or len(batch[1]) == 0:
        raise TaskError(f"{split} data is empty; give a data set with at least one sample, or None")


def check_disjoint(given: Mapping[str, Any]) -> None:
    """Raise TaskError when two splits are the same object, or share files or samples."""
    keys = {split: _sample_keys(data) for split, data in given.items()} if len(given) > 1 else {}
    for (first, data), (second, other) in itertools.combinations(given.items(), 2):
        a, b = _base(data), _base(other)
        if a is b:
            raise TaskError(f"{first} and {second} are the same data set; give disjoint ones, or None")
        (root, mine), (other_root, theirs) = _rows(a), _rows(b)
        if root is other_root and mine is not None and theirs is not None:
            shared: set[Any] = set(mine) & set(theirs)
        else:
            shared = keys[first] & keys[second]
        if shared:
            raise TaskError(
                f"{first} and {second} overlap: {len(shared)} samples are in both; remove them from one, "
                f"with TensorData.without or torch.utils.data.Subset say"
            )


def split(data: Any, seed: int, wanted: int | None = None) -> tuple[Any, Any]:
    """``(rest, part)`` of a data set, drawn by the seed and stratified by label where labels are known.

    Texts that are parts of one longer text stay together, so that the part holds no phrase of the rest's sentences.

    Args:
        data: a Dataset, a DataLoader over one, or a list of batches (which is split by whole batches).
        seed: of the draw.
        wanted: samples in the part, at most half; by default a tenth, at most 5,000.

    Raises:
        TaskError: there are fewer than two samples, or two batches in a list.
    """
    if not _indexed(data):
        batches = list(data)
        size = max(1, round(VALIDATION_PART * len(batches)))
        if len(batches) < 2:
            raise TaskError("a list of one batch cannot be split for validation; give validation data")
        return batches[:-size], batches[-size:]
    base = _base(data)
    count = len(base)
    if count < 2:
        raise TaskError(f"a data set of {count} sample cannot be split; give more samples, or validation data")
    size = min(VALIDATION_MOST, round(VALIDATION_PART * count)) if wanted is None else min(wanted, count // 2)
    generator = torch.Generator().manual_seed(seed)
    families = base.families() if isinstance(base, MemoryData) else None
    part = None if families is None else _whole_families(families, max(1, size), generator)
    if part is None:
        part = _stratified(known_labels(base), count, max(1, size), generator)
    mask = torch.ones(count, dtype=torch.bool)
    mask[part] = False
    rest = mask.nonzero()[:, 0]
    if isinstance(base, MemoryData):
        taken = base.subset(part)
        # Data sets hold exact duplicates; those of the part leave the rest.
        return base.subset(rest).without(taken), taken
    rest_data, part_data = Subset(base, rest.tolist()), Subset(base, part.tolist())
    if isinstance(data, DataLoader):
        return _reloaded(data, rest_data, shuffle=not isinstance(data.sampler, SequentialSampler)), _reloaded(
            data, part_data, False
        )
    return rest_data, part_data


def some(data: MemoryData, count: int, seed: int) -> MemoryData:
    """``count`` samples (or all, if fewer) drawn by the seed, stratified by label, as a data set of their own."""
    if count >= len(data):
        return data
    generator = torch.Generator().manual_seed(seed)
    return data.subset(_stratified(data.labels, len(data), count, generator))


def _whole_families(families: Tensor, size: int, generator: torch.Generator) -> Tensor | None:
    """Samples of families drawn at random, at most ``size`` of them, in ascending order; None where all are larger."""
    _, family, counts = torch.unique(families, return_inverse=True, return_counts=True)
    order = torch.randperm(len(counts), generator=generator)
    order = order[counts[order] <= size]
    if not len(order):
        return None
    taken = order[counts[order].cumsum(0) <= size]
    return torch.isin(family, taken).nonzero()[:, 0]


def draw(data: Any, count: int, seed: int) -> Batch:
    """``count`` samples (or all, if fewer) drawn without replacement by the seed, as one batch.

    Texts that are part of another one are drawn only when all others are: what is judged, and served, is whole.
    """
    if count < 1:
        raise TaskError(f"{count} calibration samples were asked for; ask for 1 or more")
    if not _indexed(data):
        return _first_samples(data, count)
    base = _base(data)
    rows = torch.randperm(len(base), generator=torch.Generator().manual_seed(seed))
    families = base.families() if isinstance(base, MemoryData) else None
    if families is not None:
        rows = rows[(families[rows] != rows).to(torch.uint8).argsort(stable=True)]
    rows = rows[:count]
    if isinstance(base, MemoryData):
        return next(read_batches(base.subset(rows), len(rows)))
    collate = data.collate_fn if isinstance(data, DataLoader) else default_collate
    return split_batch(collate([base[i] for i in rows.tolist()]))


def check_labels(split: str, labels: Tensor, classes: int) -> None:
    """Raise TaskError unless labels are integers in ``[0, classes)``, of samples or of their tokens."""
    if labels.dim() not in (1, 2) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise TaskError(
            f"{split} labels are {labels.dtype} of shape {tuple(labels.shape)}; they must be integers (batch,), "
            "or (batch, tokens) for a decoder"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise TaskError(
            f"{split} has the label {wrong}; the model has {classes} outputs, so labels go from 0 to {classes - 1}"
        )


def known_labels(data: Any) -> Tensor | None:
    """All labels ``(N,)`` where they can be had without reading the samples, else None."""
    base = _base(data)
    if isinstance(base, MemoryData):
        return base.labels
    if isinstance(base, TensorDataset):
        return base.tensors[-1]
    if isinstance(base, Subset):
        labels = known_labels(base.dataset)
        return None if labels is None else labels[torch.as_tensor(base.indices, dtype=torch.long)]
    targets = getattr(base, "targets", None)
    if targets is None and isinstance(base, list):
        return torch.cat([split_batch(batch)[1].reshape(-1) for batch in base])
    if targets is None or len(targets) != len(base):
        return None
    return torch.as_tensor(targets)


def class_names(data: Any) -> tuple[str, ...]:
    """The data set's class names, or ``()``."""
    base = _base(data)
    if isinstance(base, Subset):
        return class_names(base.dataset)
    return tuple(str(name) for name in getattr(base, "classes", ()) or ())


def _base(data: Any) -> Any:
    if isinstance(data, DataLoader):
        sampler = data.sampler
        return Subset(data.dataset, list(sampler.indices)) if isinstance(sampler, SubsetRandomSampler) else data.dataset
    return data


def _indexed(data: Any) -> bool:
    base = _base(data)
    return isinstance(base, Dataset) and hasattr(base, "__len__") and hasattr(base, "__getitem__")


def _stratified(labels: Tensor | None, count: int, size: int, generator: torch.Generator) -> Tensor:
    if labels is None or labels.dim() != 1:
        return torch.randperm(count, generator=generator)[:size].sort().values
    members = [(labels == label).nonzero()[:, 0] for label in torch.unique(labels)]
    quotas = _shares([len(rows) for rows in members], size)
    picked = [rows[torch.randperm(len(rows), generator=generator)[:quota]] for rows, quota in zip(members, quotas)]
    return torch.cat(picked).sort().values


def _shares(counts: list[int], size: int) -> list[int]:
    """``size`` divided in proportion to ``counts``, the remainder to the largest fractions."""
    exact = [count * size / sum(counts) for count in counts]
    shares = [int(share) for share in exact]
    by_fraction = sorted(range(len(counts)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_fraction[: size - sum(shares)]:
        shares[i] += 1
    return shares


def _reloaded(loader: DataLoader[Any], data: Dataset[Any], shuffle: bool) -> DataLoader[Any]:
    return DataLoader(
        data,
        batch_size=loader.batch_size or 128,
        shuffle=shuffle,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        drop_last=shuffle and loader.drop_last,
    )


def _first_samples(data: Any, count: int) -> Batch:
    parts: list[Batch] = []
    for batch in read_batches(data, count):
        parts.append(batch)
        if sum(len(labels) for _, labels in parts) >= count:
            break
    inputs = tuple(torch.cat(xs)[:count] for xs in zip(*(inputs for inputs, _ in parts)))
    return inputs, torch.cat([labels for _, labels in parts])[:count]


def _sample_keys(data: Any) -> set[Any]:
    """What identifies the samples of a data set: their files where it names them, else hashes of their inputs."""
    base = _base(data)
    files = _files(base)
    if files is not None:
        return {str(Path(name).resolve()) for name in files}
    if isinstance(base, MemoryData) and base.ragged:  # a batch's padding is no part of a sample
        return set(base.keys())
    in_memory = isinstance(_rows(base)[0], MemoryData | TensorDataset | Sequence)
    keys: set[Any] = set()
    for inputs, _ in read_batches(base if _indexed(base) else data, 512):
        columns = [x.reshape(len(x), -1).float().contiguous().numpy() for x in inputs]
        keys |= {hash(tuple(row.tobytes() for row in rows)) for rows in zip(*columns)}
        if not in_memory and len(keys) >= HASHED_SAMPLES:
            break
    return keys


def _files(base: Any) -> list[str] | None:
    """File names of the samples of an image-folder data set (torchvision's ``samples``), through subsets."""
    root, rows = _rows(base)
    samples = getattr(root, "samples", None)
    if not isinstance(samples, list) or not samples or not isinstance(samples[0], tuple):
        return None
    if not isinstance(samples[0][0], str):
        return None
    return [samples[i][0] for i in (range(len(samples)) if rows is None else rows)]


def _rows(base: Any) -> tuple[Any, list[int] | None]:
    """The data set below all subsets, and the indices of it that count (None: all)."""
    rows: list[int] | None = None
    while isinstance(base, Subset):
        rows = list(base.indices) if rows is None else [base.indices[i] for i in rows]
        base = base.dataset
    return base, rows
