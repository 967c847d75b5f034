"""Data in memory, batches of any data set, and seeded splits."""

from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from coldpress import splits
from coldpress.data import TensorData, read_batches, split_batch
from coldpress.errors import TaskError


def pixels(count: int = 20, **keywords: object) -> TensorData:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return TensorData(inputs, torch.arange(count) % 4, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3), **keywords)  # type: ignore[arg-type]


def test_samples_and_batches_are_normalised_alike() -> None:
    data = pixels()
    inputs, labels = next(data.batches(20))
    assert torch.equal(torch.stack([data[i][0] for i in range(20)]), inputs)
    assert torch.allclose(inputs[3, 1], (data.inputs[3, 1] / 255 - 0.4) / 0.2)
    assert torch.equal(labels, data.labels)
    assert torch.equal(data[-1][0], inputs[-1])


def test_shuffling_and_augmentation_follow_the_generator() -> None:
    data = pixels(flip=True, pad=2)

    def read(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([x for x, _ in data.batches(6, True, generator, augment=True)])

    assert torch.equal(read(1), read(1))
    assert not torch.equal(read(1), read(2))


def test_augmentation_shifts_and_mirrors_only() -> None:
    data = TensorData(
        torch.arange(1, 65).view(1, 1, 8, 8).repeat(50, 1, 1, 1).float(), torch.zeros(50).long(), flip=True
    )
    generator = torch.Generator().manual_seed(0)
    (mirrored, _), *_ = data.batches(50, generator=generator, augment=True)
    image = data.inputs[0]
    kinds = {"same" if torch.equal(x, image) else "flip" if torch.equal(x, image.flip(2)) else "?" for x in mirrored}
    assert kinds == {"same", "flip"}
    cropped = TensorData(data.inputs, data.labels, pad=1)
    (shifted, _), *_ = cropped.batches(50, generator=generator, augment=True)
    padded = torch.nn.functional.pad(image.float(), (1, 1, 1, 1), mode="reflect").to(image.dtype)
    allowed = [padded[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    assert all(any(torch.equal(x, crop) for crop in allowed) for x in shifted)


def test_every_kind_of_data_reads_alike() -> None:
    tensors = TensorDataset(torch.randn(7, 2), torch.arange(7))
    for data in (tensors, DataLoader(tensors, batch_size=3), list(DataLoader(tensors, batch_size=4))):
        batches = list(read_batches(data, 3))
        assert torch.equal(torch.cat([inputs[0] for inputs, _ in batches]), tensors.tensors[0])
        assert torch.equal(torch.cat([labels for _, labels in batches]), tensors.tensors[1])


def test_a_batch_that_is_none_is_explained() -> None:
    with pytest.raises(TaskError, match=r"\(inputs, labels\)"):
        split_batch(torch.zeros(3))
    with pytest.raises(TaskError, match=r"holds \(Tensor, list\)"):
        split_batch((torch.zeros(3), [1, 2, 3]))
    with pytest.raises(TaskError, match="2 inputs but 3 labels"):
        TensorData(torch.zeros(2, 1), torch.zeros(3))


def test_without_removes_exact_duplicates_only() -> None:
    data = pixels()
    assert torch.equal(
        data.without(data.subset([2, 5])).inputs, data.subset([i for i in range(20) if i not in (2, 5)]).inputs
    )


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=80), st.integers(0, 3), st.integers(1, 60))
def test_a_split_is_a_seeded_stratified_partition(labels: list[int], seed: int, wanted: int) -> None:
    data = TensorDataset(torch.arange(len(labels)).float()[:, None], torch.tensor(labels))
    rest, part = splits.split(data, seed, wanted=wanted)
    again, _ = splits.split(data, seed, wanted=wanted)
    assert sorted([*rest.indices, *part.indices]) == list(range(len(labels)))
    assert len(part) == min(wanted, len(labels) // 2)
    assert rest.indices == again.indices
    for label in set(labels):
        exact = labels.count(label) * len(part) / len(labels)
        assert abs(sum(labels[i] == label for i in part.indices) - exact) < 1


def test_a_split_of_a_split_stays_disjoint() -> None:
    class Files(TensorDataset):
        samples: ClassVar = [(f"{i}.png", i % 2) for i in range(40)]

    data = Files(torch.zeros(40, 1), torch.arange(40) % 2)
    rest, test = splits.split(data, 0)
    train, validation = splits.split(rest, 0)
    splits.check_disjoint({"train": train, "validation": validation, "test": test})
    with pytest.raises(TaskError, match="train and validation overlap: 4 samples"):
        splits.check_disjoint({"train": rest, "validation": validation})
    with pytest.raises(TaskError, match="overlap: 36 samples"):
        splits.check_disjoint({"train": rest, "test": data})


def test_a_draw_is_without_replacement() -> None:
    data = TensorDataset(torch.arange(30).float()[:, None], torch.zeros(30).long())
    (drawn,), _ = splits.draw(data, 30, seed=1)
    assert sorted(drawn[:, 0].tolist()) == list(range(30))
    (some,), labels = splits.draw(list(DataLoader(data, batch_size=4)), 10, seed=1)
    assert len(some) == len(labels) == 10
