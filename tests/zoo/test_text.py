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

    def __call__(
        self, first: list[str], *second: list[str], truncation: bool = False, max_length: int = 99, verbose: bool = True
    ) -> Mapping[str, Any]:
        rows = [[len(word) for word in text.split()] for text in first]
        types = [[0] * len(row) for row in rows]
        for texts in second:
            rows = [row + [0] + [len(word) for word in text.split()] for row, text in zip(rows, texts)]
            types = [old + [1] * (len(row) - len(old)) for old, row in zip(types, rows)]
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


def test_a_parquet_file_gives_the_same(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra coldpress[hf]")
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra coldpress[hf]")
    rows = distinct(40)
    columns = {"label": [label for _, label in rows], "sentence": [sentence for sentence, _ in rows]}
    (tmp_path / "all.tsv").write_text(tsv(rows))
    parquet.write_table(pyarrow.table(columns), tmp_path / "all.parquet")
    ours, theirs = (read(tmp_path / f"all.{kind}", Words()) for kind in ("tsv", "parquet"))
    for one, other in zip(ours, theirs):
        assert isinstance(one, TokenData)
        assert isinstance(other, TokenData)
        assert [row.tolist() for row in one.ids] == [row.tolist() for row in other.ids]
        assert one.labels.tolist() == other.labels.tolist()


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


def test_rows_without_text_or_label_are_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [json.dumps({"sentence": text, "label": label}) for text, label in distinct(40)]
    lines += ['{"sentence": "no label"}', '{"sentence": null, "label": 1}', '{"sentence": "it is null", "label": null}']
    (tmp_path / "all.jsonl").write_text("\n".join(lines))
    parts = read(tmp_path / "all.jsonl", Words())
    assert sum(len(part) for part in parts if part is not None) == 40
    assert "2 of 43 rows have no label" in caplog.text
    assert "1 of 43 rows have no text" in caplog.text


def test_texts_that_are_cut_off_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [("a b c d e f", 1), ("a b c d e f g", 0), ("aa " * 20, 1), *distinct(20)]
    (tmp_path / "all.tsv").write_text(tsv(rows))
    parts = read(tmp_path / "all.tsv", Words())
    assert max(len(ids) for part in parts if part is not None for ids in part.ids) == 6
    assert "2 of 23 texts are cut off after 6 tokens" in caplog.text


def test_blank_texts_and_texts_without_tokens_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Letters(Words):
        def __call__(self, first: list[str], *second: list[str], **more: Any) -> Mapping[str, Any]:
            return super().__call__([text.replace("!", "") for text in first], *second, **more)

    rows = [*distinct(30), ("", 1), ("  ", 0), ("!", 1)]
    (tmp_path / "all.tsv").write_text(tsv(rows))
    parts = read(tmp_path / "all.tsv", Letters())
    lengths = [len(ids) for part in parts if part is not None for ids in part.ids]
    assert len(lengths) == 30
    assert min(lengths) > 0
    assert "3 of 33 rows have no text" in caplog.text
    (tmp_path / "none.tsv").write_text(tsv([("!", 1), ("!!", 0)]))
    with pytest.raises(TaskError, match="has no tokens for"):
        read(tmp_path / "none.tsv", Letters())


@pytest.mark.parametrize("label", [[0, 1], {"a": 1}, 0.5, -2, "0.5"])
def test_labels_that_are_no_class_are_refused(label: object, tmp_path: Path) -> None:
    lines = [json.dumps({"text": text, "label": number}) for text, number in distinct(20)]
    (tmp_path / "all.jsonl").write_text("\n".join([*lines, json.dumps({"text": "a", "label": label})]))
    with pytest.raises(TaskError, match=r"has the label .* in column 'label'; each text needs one class"):
        read(tmp_path / "all.jsonl", Words())


def test_whole_floats_are_numbers(tmp_path: Path) -> None:
    for place, kind in ((tmp_path / "ints", int), (tmp_path / "floats", float)):
        place.mkdir()
        for part, rows in (("train", distinct(30)), ("test", [*distinct(6, 30), ("none", -1)])):
            lines = [json.dumps({"text": text, "label": kind(label)}) for text, label in rows]
            (place / f"{part}.jsonl").write_text("\n".join(lines))
    _, _, ints = read(tmp_path / "ints", Words())
    _, _, floats = read(tmp_path / "floats", Words())
    assert ints is not None
    assert floats is not None
    assert floats.labels.tolist() == ints.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert floats.classes == ()


@pytest.mark.parametrize("line", ["1", '"a text"', "[1]", "{oops"])
def test_a_line_that_is_no_object_is_told_by_its_number(line: str, tmp_path: Path) -> None:
    (tmp_path / "all.jsonl").write_text(f'{{"text": "a", "label": 0}}\n\n{line}\n')
    with pytest.raises(TaskError, match=r"line 3 of .*all\.jsonl is"):
        read(tmp_path / "all.jsonl", Words())


@pytest.mark.parametrize(
    ("name", "lines", "says"),
    [
        ("all.csv", ["sentence,label", "good,1", "", "so, so,0"], "line 4 of .* has 3 fields, and the header 2: put"),
        ("all.csv", ["sentence,label", '"so, so\nand so",0', "bad"], "line 4 of .* has 1 fields, and the header 2"),
        ("all.tsv", ["sentence\tlabel", '"a\t1', "b\tc\t0"], "line 3 of .* has 3 fields, and the header 2: take tabs"),
    ],
)
def test_a_row_that_is_longer_or_shorter_than_the_header_is_told_by_its_line(
    name: str, lines: list[str], says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("\n".join(lines))
    with pytest.raises(TaskError, match=says):
        read(tmp_path / name, Words())


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_mark_of_the_byte_order_is_no_part_of_the_first_column(kind: str, tmp_path: Path) -> None:
    lines = [f'{{"sentence": "{text}", "label": {label}}}' for text, label in distinct(20)]
    if kind == "csv":
        lines = ["sentence,label", *(f'"{text}",{label}' for text, label in distinct(20))]
    (tmp_path / f"all.{kind}").write_text("\r\n".join(lines), encoding="utf-8-sig")
    assert sum(len(part) for part in read(tmp_path / f"all.{kind}", Words()) if part is not None) == 20


def test_a_tokenizer_that_cannot_fill_up_is_refused(tmp_path: Path) -> None:
    class Bare(Words):
        pad_token_id = None  # type: ignore[assignment]

    (tmp_path / "all.tsv").write_text(tsv(distinct(20)))
    with pytest.raises(TaskError, match=r"no token that fills texts up: give the model's config\.json a pad_token_id"):
        read(tmp_path / "all.tsv", Bare())


def test_numbers_and_names_as_labels_do_not_mix(tmp_path: Path) -> None:
    numbers, names = distinct(40), [(text, "yes" if label else "no") for text, label in distinct(40, 40)]
    (tmp_path / "mixed.tsv").write_text(tsv(numbers[:20] + names[:20]))
    with pytest.raises(TaskError, match=r"labels that are numbers and labels that are names: use one"):
        read(tmp_path / "mixed.tsv", Words())
    for train, dev in ((numbers, names), (names, numbers)):
        folder = tmp_path / str(train[0][1])
        folder.mkdir()
        (folder / "train.tsv").write_text(tsv(train))
        (folder / "dev.tsv").write_text(tsv(dev))
        with pytest.raises(TaskError, match=r"dev\.tsv has labels that are .*, unlike train's"):
            read(folder, Words())


def test_data_all_of_which_is_tested_on_is_refused(tmp_path: Path) -> None:
    for part in ("train.tsv", "dev.tsv"):
        (tmp_path / part).write_text(tsv(distinct(20)))
    with pytest.raises(TaskError, match="every text of train is also in"):
        read(tmp_path, Words())


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


def named_file(folder: Path, name: str, rows: list[tuple[str, str, object]]) -> Path:
    path = folder / name
    path.write_text("review\tanswer\tgood\n" + "".join(f"{a}\t{b}\t{label}\n" for a, b, label in rows))
    return path


def test_files_and_columns_can_be_named(tmp_path: Path) -> None:
    train = named_file(tmp_path, "a.txt", [("x" * i, "y", i % 2) for i in range(1, 21)])
    test = named_file(tmp_path, "b.tsv", [("x " * i, "yy", i % 2) for i in range(2, 6)])
    splits = data(f"tsv:train={train},test={test},text=review+answer,label=good", tokenizer=Words())
    assert len(splits.test) == 4
    assert len(splits.train) + len(splits.validation) == 20
    assert splits.test.ids[0].tolist() == [1, 1, 0, 2]
    assert splits.test.labels.tolist() == [0, 1, 0, 1]


def test_one_named_file_is_split_in_three(tmp_path: Path) -> None:
    train = named_file(tmp_path, "a.tsv", [("x" * i, "y", i % 2) for i in range(1, 61)])
    splits = data(f"tsv:train={train},text=review,label=good", tokenizer=Words())
    assert sum(len(part) for part in (splits.train, splits.validation, splits.test)) == 60
    assert len(splits.test) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train={file},text=revue,label=good", "has the columns review, answer, good.*revue"),
        ("train={file},text=review,label=best", "needs a label .best."),
        ("train={file},columns=review", "'columns=review' in the data .* is not known"),
        ("text=review", "names no file"),
        ("train=nowhere.tsv", "no file nowhere.tsv"),
    ],
)
def test_a_wrong_name_is_told(tmp_path: Path, words: str, message: str) -> None:
    file = named_file(tmp_path, "a.tsv", [("x", "y", 0), ("xx", "y", 1)])
    with pytest.raises(TaskError, match=message):
        data("tsv:" + words.format(file=file), tokenizer=Words())
