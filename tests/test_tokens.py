"""Texts of any length: batches are padded, splits are disjoint, nothing depends on the padding."""

from __future__ import annotations

import pytest
import torch

from coldpress.commands.subject import timing_example
from coldpress.data import read_batches
from coldpress.errors import TaskError
from coldpress.network import batches_alike
from coldpress.splits import check_disjoint, split
from coldpress.splits import draw as draw_samples
from coldpress.task import Task
from coldpress.tokens import TokenData, parents


def data(lengths: list[int], start: int = 1, types: bool = False) -> TokenData:
    ids = tuple(torch.arange(start, start + n, dtype=torch.int32) for n in lengths)
    kinds = tuple((torch.arange(n) > n // 2).to(torch.int8) for n in lengths) if types else ()
    return TokenData(ids, torch.arange(len(lengths)) % 2, ("no", "yes"), kinds, padding=9)


def test_a_batch_is_as_long_as_its_longest() -> None:
    (inputs, labels), (last, _) = read_batches(data([2, 4, 3]), 2)
    assert [x.shape for x in inputs] == [(2, 4), (2, 4)]
    assert inputs[0].tolist() == [[1, 2, 9, 9], [1, 2, 3, 4]]
    assert inputs[1].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert labels.tolist() == [0, 1]
    assert last[0].shape == (1, 3)


def test_token_types_come_third() -> None:
    (inputs, _), *_ = read_batches(data([4, 2], types=True), 2)
    assert inputs[2].tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]


def test_the_example_is_as_long_as_nearly_all() -> None:
    many = data([3] * 90 + [8] * 9 + [50])
    assert many.example()[0].shape == (1, 8)


def test_splits_keep_every_sample_once_and_know_equal_texts() -> None:
    whole = data(list(range(2, 42)))
    rest, part = split(whole, seed=0)
    assert sorted([*map(len, rest.ids), *map(len, part.ids)]) == list(range(2, 42))
    check_disjoint({"train": rest, "test": part})
    with pytest.raises(TaskError, match="overlap"):
        check_disjoint({"train": rest, "test": part.joined(rest.subset([0]))})
    assert len(rest.without(rest.subset([0, 1]))) == len(rest) - 2


def test_texts_and_labels_must_be_as_many() -> None:
    with pytest.raises(TaskError, match="1 texts, 2 labels"):
        TokenData((torch.arange(3),), torch.tensor([0, 1]))


def test_an_example_may_be_given_any_length() -> None:
    data = TokenData((torch.tensor([7, 8, 9]), torch.tensor([5])), torch.tensor([0, 1]))
    ids, mask = data.example(tokens=8)
    assert ids.tolist() == [[7, 8, 9, 7, 8, 9, 7, 8]]
    assert mask.tolist() == [[1] * 8]
    assert data.example(tokens=2)[0].tolist() == [[7, 8]]
    assert timing_example(data, 5)[0].shape == (1, 5)
    with pytest.raises(TaskError, match="holds no texts"):
        timing_example([(torch.zeros(2, 3), torch.zeros(2))], 5)


def test_phrases_stay_with_the_text_that_they_are_part_of() -> None:
    draw = torch.Generator().manual_seed(0)
    sentences = [torch.cat([torch.tensor([1]), torch.randint(10, 2000, (12,), generator=draw)]) for _ in range(60)]
    phrases = [torch.cat([row[:1], row[i : i + 4]]) for row in sentences for i in (1, 5, 9)]
    rows = [torch.cat([row, torch.tensor([2])]) for row in (*phrases, *sentences)]
    whole = TokenData(tuple(rows), torch.arange(len(rows)) % 2)
    found = parents([row.tolist() for row in rows])
    assert found == [180 + i // 3 for i in range(180)] + list(range(180, 240))
    rest, part = split(whole, 0)
    assert 12 <= len(part) <= 24
    assert len(rest) + len(part) == len(whole)
    inputs, _ = draw_samples(whole, 70, 0)
    drawn = inputs[1].sum(1).tolist()
    assert sorted(drawn) == [6] * 10 + [14] * 60  # phrases come when there are no more sentences
    longest = [set(row.tolist()) for row in part.ids if len(row) == 14]
    assert len(longest) * 4 == len(part)
    assert all(any(set(row.tolist()) <= sentence for sentence in longest) for row in part.ids)
    assert not any(set(row.tolist()) <= sentence for sentence in longest for row in rest.ids)
    assert [row.tolist() for row in split(whole, 0)[1].ids] == [row.tolist() for row in part.ids]


def test_shuffled_batches_hold_every_text_once_and_little_filling() -> None:
    lengths = torch.randint(2, 60, (1000,), generator=torch.Generator().manual_seed(0)).tolist()
    whole = data(lengths)

    def drawn(seed: int) -> list[tuple[torch.Tensor, ...]]:
        return list(whole.batches(16, shuffle=True, generator=torch.Generator().manual_seed(seed)))

    batches = drawn(1)
    assert sorted(int(n) for _, mask, _ in batches for n in mask.sum(1)) == sorted(lengths)
    filled = sum(float(mask.sum()) for _, mask, _ in batches) / sum(mask.numel() for _, mask, _ in batches)
    assert filled > 0.9
    widths = [mask.shape[1] for _, mask, _ in batches]
    assert widths != sorted(widths)  # short and long ones in turns
    assert all(torch.equal(a[0], b[0]) for a, b in zip(batches, drawn(1)))
    assert widths != [mask.shape[1] for _, mask, _ in drawn(2)]


def test_evaluation_runs_texts_by_length_and_tells_of_them_in_order() -> None:
    texts, seen = data([9, 2, 30, 2, 9, 4]), list[int]()

    class Lengths(torch.nn.Module):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            seen.append(ids.shape[1])
            lengths = mask.sum(1, keepdim=True).float()
            return torch.cat([lengths, 5.0 * torch.ones_like(lengths)], 1)

    task = Task(Lengths(), texts.example(), train=data([3, 5, 7, 8] * 4, start=40), test=texts)
    seen.clear()
    found = task.evaluate(task.model, "test", batch_size=2)
    assert seen == [2, 9, 30]
    assert found.labels.tolist() == texts.labels.tolist()
    assert found.logits is not None
    assert found.logits[:, 0].tolist() == [9, 2, 30, 2, 9, 4]
    assert found.predictions.tolist() == [0, 1, 0, 1, 0, 1]
    assert found.loss == pytest.approx(float(torch.nn.functional.cross_entropy(found.logits, texts.labels)))


def test_batches_of_padded_texts_are_cut() -> None:
    inputs = next(read_batches(data([5, 2, 7, 3]), 4))[0]
    batches = batches_alike(inputs, 2)
    assert [rows.tolist() for rows, _ in batches] == [[1, 3], [0, 2]]
    assert [part[0].shape for _, part in batches] == [(2, 3), (2, 7)]
    images = torch.arange(12.0).view(3, 1, 2, 2)
    assert [rows.tolist() for rows, _ in batches_alike([images], 2)] == [[0, 1], [2]]
