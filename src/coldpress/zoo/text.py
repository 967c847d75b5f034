"""Labelled texts from files: TSV, CSV, JSON lines and Parquet with named columns."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from coldpress.errors import TaskError
from coldpress.splits import split
from coldpress.tokens import TokenData
from coldpress.zoo import labels
from coldpress.zoo.encoding import Encode, tokenized
from coldpress.zoo.named import Named

logger = logging.getLogger("coldpress.zoo")

Row = Mapping[str, Any]

FORMATS = (".tsv", ".csv", ".jsonl", ".parquet")
TEXTS: tuple[tuple[str, ...], ...] = (
    ("question", "sentence"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("sentence",),
    ("text",),
    ("review",),
    ("content",),
)
PARTS = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev", "val", "validation_matched", "dev_matched"),
    "test": ("test", "test_matched"),
}
Parts = tuple[TokenData | None, TokenData | None, TokenData | None]


def is_text(name: str) -> bool:
    """Whether a data name is a file or a folder of texts."""
    path = Path(name)
    return _format(path) is not None or (path.is_dir() and any(_format(file) for file in path.iterdir()))


def read_named(named: Named, encode: Encode, seed: int = 0) -> Parts:
    """Train, validation and test data of files and columns by name.

    Raises:
        TaskError: a file cannot be read, or has no such columns.
    """
    classes: tuple[str, ...] | None = None
    found: dict[str, TokenData | None] = dict.fromkeys(PARTS)
    for part, file in named.files.items():
        found[part], classes = _read_file(file, encode, classes, named)
    if named.files.keys() == {"train"} and (whole := found["train"]) is not None:
        rest, found["test"] = split(whole, seed)
        found["train"] = rest
    return completed(found["train"], found["validation"], found["test"], seed)


def read(path: Path, encode: Encode, seed: int = 0) -> Parts:
    """Train, validation and test data from a file (which is split by the seed) or a folder of files.

    In a folder the files are called ``train``, ``validation`` (or ``dev``) and ``test``. Where there is no test file,
    the validation file is reported on, and validation is split off train.

    Args:
        path: the file or the folder; files may end in ``.gz``.
        encode: a Hugging Face tokenizer.
        seed: of the splits.

    Raises:
        TaskError: a file is missing or cannot be read, or its columns are not known.
    """
    if path.is_file():
        whole, _ = _read_file(path, encode)
        rest, test = split(whole, seed)
        return (*split(rest, seed), test)
    if not path.is_dir():
        raise TaskError(f"there is no text file or folder at {path}; check --data")
    files = {part: file_of(path, names) for part, names in PARTS.items()}
    if not any(files.values()):
        raise TaskError(f"{path} holds no file called train, validation or test with one of {', '.join(FORMATS)}")
    classes: tuple[str, ...] | None = None
    found: dict[str, TokenData | None] = {}
    for part, file in files.items():
        found[part], classes = _read_file(file, encode, classes) if file is not None else (None, classes)
    return completed(found["train"], found["validation"], found["test"], seed)


def completed(train: TokenData | None, validation: TokenData | None, test: TokenData | None, seed: int = 0) -> Parts:
    """The three parts, disjoint; where one of the last two is missing, validation is split off train by the seed."""
    if test is None:
        validation, test = None, validation
    given = 0 if train is None else len(train)
    for other in (validation, test):
        train = train.without(other) if train is not None and other is not None else train
    if train is not None and given and not len(train):
        raise TaskError("every text of train is also in the data for validation or test: nothing is left to train on")
    if train is not None and validation is None:
        train, validation = split(train, seed)
    return train, validation, test


def encoded(
    rows: Sequence[Row],
    encode: Encode,
    source: str,
    classes: tuple[str, ...] | None = None,
    named: Named | None = None,
) -> tuple[TokenData, tuple[str, ...]]:
    """Rows with a text (or two) and a label as token data, and the class names, ``()`` where labels are numbers.

    Labels are whole numbers from 0, or names; names are numbered as the model's are (``encode.class_names``), where it
    has some, else in alphabetical order. Rows without a label, or whose text is missing, blank or of no tokens, are
    left out, with a warning.

    Args:
        rows: by column.
        encode: a tokenizer.
        source: where they come from, in words.
        classes: those of the parts before; None where this is the first.
        named: columns by name.

    Raises:
        TaskError: there are no such columns, no rows are left, labels are of another kind, or the tokenizer knows too
            few of the words or has no token that fills texts up.
    """
    if not rows:
        raise TaskError(f"{source} holds no rows")
    label, texts = _columns(list(rows[0]), source, named)
    words = [labels.label_of(row.get(label), source, label) for row in rows]
    kept = [i for i, row in enumerate(rows) if words[i] and all(_written(row, name) for name in texts)]
    if not kept:
        raise TaskError(f"{source} has no labels in column {label!r}, or no texts beside them")
    ids, types = tokenized([[str(rows[i][name]) for i in kept] for name in texts], encode, source)
    full = [place for place, row in enumerate(ids) if len(row)]
    labelled = sum(map(bool, words))
    for what, lost in (("label", len(rows) - labelled), ("text", labelled - len(full))):
        if lost:
            logger.warning("%s: %d of %d rows have no %s and are left out", source, lost, len(rows), what)
    padding = getattr(encode, "pad_token_id", None)
    if padding is None or not full:
        what = "no token that fills texts up: give the model's config.json a pad_token_id" if full else "no tokens"
        raise TaskError(f"the tokenizer {getattr(encode, 'name_or_path', '')} has {what} for {source}")
    names = tuple(getattr(encode, "class_names", ()))
    numbers, classes = labels.numbered([words[kept[place]] for place in full], source, classes, names)
    chosen = tuple(ids[place] for place in full)
    kinds = tuple(types[place] for place in full) if types else ()
    return TokenData(chosen, torch.tensor(numbers), classes, kinds, int(padding)), classes


def _columns(columns: Sequence[str], source: str, named: Named | None) -> tuple[str, tuple[str, ...]]:
    """The column of labels, and the one or two of texts. Raises TaskError where there are none."""
    wanted = (named.label,) if named and named.label else labels.COLUMNS
    known = (named.text,) if named and named.text else TEXTS
    label = next((name for name in wanted if name in columns), None)
    texts = next((names for names in known if set(names) <= set(columns)), None)
    if label is None or texts is None:
        raise TaskError(
            f"{source} has the columns {', '.join(columns)}; it needs a label ({', '.join(wanted)}) and a text "
            f"({', '.join(' + '.join(names) for names in known)}): name them, as in tsv:train=FILE,text=...,label=..."
        )
    return label, texts


def _written(row: Row, name: str) -> bool:
    return row.get(name) is not None and bool(str(row[name]).strip())


def _read_file(
    path: Path, encode: Encode, classes: tuple[str, ...] | None = None, named: Named | None = None
) -> tuple[TokenData, tuple[str, ...]]:
    try:
        rows = list(_rows(path, f".{named.kind}" if named else _format(path)))
    except (OSError, ValueError, csv.Error, EOFError) as error:
        raise TaskError(f"{path} cannot be read: {error}") from error
    return encoded(rows, encode, str(path), classes, named)


def _rows(path: Path, kind: str | None) -> Iterator[Row]:
    if kind == ".parquet":
        try:
            parquet = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise TaskError(f"{path} needs pyarrow; install it with: pip install 'coldpress[hf]'") from error
        yield from parquet.read_table(path).to_pylist()
        return
    how: dict[str, Any] = {"mode": "rt", "encoding": "utf-8-sig"}  # Excel begins a file with a mark
    with gzip.open(path, **how) if path.suffix == ".gz" else path.open(**how) as lines:
        if kind == ".jsonl":
            yield from _objects(path, lines)
        elif kind == ".tsv":  # no quoting: quotation marks are text
            reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
            yield from _records(path, reader, "take tabs out of its texts")
        else:
            yield from _records(path, csv.reader(lines), "put texts that hold commas in quotation marks")


def _records(path: Path, reader: Any, remedy: str) -> Iterator[Row]:
    """Rows under a header; blank lines are none. Raises TaskError where one has more or fewer fields."""
    head: list[str] = next(reader, [])
    for row in reader:
        if row and len(row) != len(head):
            raise TaskError(
                f"line {reader.line_num} of {path} has {len(row)} fields, and the header {len(head)}: {remedy}, or "
                "leave the line out"
            )
        if row:
            yield dict(zip(head, row))


def _objects(path: Path, lines: Iterable[str]) -> Iterator[Row]:
    """JSON lines. Raises TaskError where one is no object."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise TaskError(f"line {number} of {path} is no JSON: {error.msg}, at its column {error.colno}") from error
        if not isinstance(row, dict):
            raise TaskError(
                f"line {number} of {path} is {line.strip()[:40]}, no object; write each line as "
                '{"text": "...", "label": ...}'
            )
        yield row


def _format(path: Path) -> str | None:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return suffix if suffix in FORMATS else None


def file_of(folder: Path, names: Sequence[str], formats: Callable[[Path], object] = _format) -> Path | None:
    """The file of a folder that is called by one of these names, the first that there is."""
    files = sorted(file for file in folder.iterdir() if formats(file))
    return next((file for name in names for file in files if file.name.split(".")[0].split("-")[0] == name), None)
