"""Text files with named columns become token data, whatever their format."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from coldpress.errors import TaskError
from coldpress.tokens import TokenData
from coldpress.zoo import data
from coldpress.zoo.text import read


class Words:
    """A tokenizer whose tokens are the lengths of words; two texts are joined by a zero."""

    pad_token_id = 0
    model_max_length = 6

    def __call__(self, first: list[str], *second: list[str], truncation: bool, max_length: int) -> Mapping[str, Any]:
        rows = [[len(word) for word in text.split()] for text in first]
        types = [[0] * len(row) for row in rows]
        for texts in second:
            rows = [row + [0] + [len(word) for word in text.split()] for row, text in zip(rows, texts)]
            types = [old + [1] * (len(row) - len(old)) for old, row in zip(types, rows)]
        assert truncation
        return {"input_ids": [r[:max_length] for r in rows], "token_type_ids": [t[:max_length] for t in types]}


def tsv(rows: list[tuple[str, object]]) -> str:
    return "sentence\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows)


def distinct(count: int, start: int = 0) -> list[tuple[str, object]]:
    """Texts whose word lengths, all that the tokenizer sees, differ."""
    return [(f"{'a' * (i % 7 + 1)} {'b' * (i // 7 + 1)}", i % 2) for i in range(start, start + count)]


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "tsv.gz"])
def test_every_format_gives_the_same(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    rows = distinct(40)
    text = {
        "tsv": tsv(rows),
        "tsv.gz": tsv(rows),
        "csv": "label,sentence\n" + "".join(f'{label},"{text}"\n' for text, label in rows),
        "jsonl": "".join(json.dumps({"label": label, "sentence": text}) + "\n" for text, label in rows),
    }[kind]
    path = folder / f"all.{kind}"
    path.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    parts = read(path, Words())
    assert all(isinstance(part, TokenData) for part in parts)
    assert sorted(tuple(row.tolist()) for part in parts for row in part.ids) == sorted(  # type: ignore[union-attr]
        tuple(len(word) for word in sentence.split()) for sentence, _ in rows
    )


def test_a_published_validation_file_is_reported_on_where_test_has_no_labels(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(tsv(distinct(30)))
    (tmp_path / "dev.tsv").write_text(tsv(distinct(6, start=30)))
    splits = data(str(tmp_path), tokenizer=Words())
    assert len(splits.test) == 6
    assert len(splits.train) + len(splits.validation) == 30


def test_what_is_in_test_leaves_train(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(tsv(distinct(30)))
    (tmp_path / "test.tsv").write_text(tsv(distinct(6)))
    train, validation, test = read(tmp_path, Words())
    assert (len(train) + len(validation), len(test)) == (24, 6)  # type: ignore[arg-type]


def test_named_labels_are_numbered_alike_in_all_files(tmp_path: Path) -> None:
    named = [(text, "yes" if label else "no") for text, label in distinct(36)]
    (tmp_path / "train.tsv").write_text(tsv(named[:30]))
    (tmp_path / "test.tsv").write_text(tsv(list(reversed(named[30:]))))
    train, _, test = read(tmp_path, Words())
    assert train is not None
    assert test is not None
    assert train.classes == test.classes == ("no", "yes")
    assert test.labels.tolist() == [1, 0, 1, 0, 1, 0]


def test_two_texts_have_types(tmp_path: Path) -> None:
    rows = "".join(f"{text}\tanother one\t{label}\n" for text, label in distinct(20))
    (tmp_path / "train.tsv").write_text("sentence1\tsentence2\tlabel\n" + rows)
    train, *_ = read(tmp_path, Words())
    assert train is not None
    assert train.types[0].tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a\tb\n1\t2\n", "it needs a label"),
        ("sentence\tlabel\n", "no rows"),
        ("sentence\tlabel\nno label here\t\n", "no labels"),
    ],
)
def test_what_is_missing_is_named(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(content)
    with pytest.raises(TaskError, match=says):
        read(tmp_path, Words())


def test_texts_need_a_tokenizer_and_a_place(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(tsv(distinct(8)))
    with pytest.raises(TaskError, match="--model hf:"):
        data(str(tmp_path))
    with pytest.raises(TaskError, match="check --data"):
        read(tmp_path / "nowhere", Words())
