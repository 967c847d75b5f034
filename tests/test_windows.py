"""Plain text becomes windows of tokens, each with the token that follows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from coldpress.errors import TaskError
from coldpress.windows import WindowData
from coldpress.zoo import data
from coldpress.zoo.plain_text import read, tokens_of


def test_a_label_is_the_token_that_follows() -> None:
    windows = WindowData.of(torch.arange(10), 3)
    assert windows.ids.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert windows.labels.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_the_last_window_needs_a_token_after_it() -> None:
    assert len(WindowData.of(torch.arange(9), 3)) == 2
    with pytest.raises(TaskError, match="3 tokens holds no window of 3"):
        WindowData.of(torch.arange(3), 3)


def test_subsets_and_batches_keep_windows_whole() -> None:
    windows = WindowData.of(torch.arange(31), 3)
    part = windows.subset([4, 1])
    assert part.joined(windows.subset([0])).ids[:, 0].tolist() == [12, 3, 0]
    ids, mask, labels = next(part.batches(8, shuffle=True, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(labels, ids + 1)
    assert mask.eq(1).all()
    assert len(windows.without(part)) == len(windows) - 2


def test_an_example_is_as_long_as_asked() -> None:
    ids, mask = WindowData.of(torch.arange(10), 3).example(tokens=5)
    assert ids.tolist() == [[0, 1, 2, 0, 1]]
    assert mask.shape == (1, 5)


def test_without_a_tokenizer_bytes_are_tokens(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("aé")
    assert tokens_of(file, None).tolist() == [97, 195, 169]


def test_the_end_of_a_text_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(chr(33 + (i * i // 700) % 90) for i in range(2000)))
    train, validation, test = read({"train": tmp_path / "a.txt"}, None, 10)
    assert None not in (train, validation, test)
    assert (len(validation), len(test)) == (17, 19)
    assert 100 < len(train) <= 161


def test_files_of_a_folder_are_parts(tmp_path: Path) -> None:
    for first, (name, size) in enumerate((("train", 400), ("dev", 90), ("test", 50))):
        (tmp_path / f"{name}.txt").write_text("".join(chr(33 + (first + i * 7 + i // 10) % 90) for i in range(size)))
    splits = data(str(tmp_path), window=10)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [39, 8, 4]
    assert splits.arguments()["metric"] == "log_likelihood"


def test_what_occurs_twice_is_in_one_part(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abcde" * 20 + "".join(chr(33 + i % 90) for i in range(80)) + "abcde" * 4)
    train, validation, test = read({"train": tmp_path / "a.txt"}, None, 5)
    assert None not in (train, validation, test)
    assert not set(train.keys()) & set(test.keys())
    assert not set(validation.keys()) & set(test.keys())


def test_text_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="no text file"):
        data(str(tmp_path / "none.txt"))
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskError, match="cannot be read as text"):
        data(str(tmp_path / "bad.txt"))
    (tmp_path / "short.txt").write_text("abc")
    with pytest.raises(TaskError, match="holds no window"):
        data(str(tmp_path / "short.txt"))
