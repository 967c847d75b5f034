"""Labelled texts from files: TSV, CSV, JSON lines and Parquet with named columns."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from coldpress.errors import TaskError
from coldpress.splits import split
from coldpress.tokens import TokenData
from coldpress.zoo.named import Named

logger = logging.getLogger("coldpress.zoo")

Encode = Callable[..., Mapping[str, Any]]
Row = Mapping[str, Any]

FORMATS = (".tsv", ".csv", ".jsonl", ".parquet")
LABELS = ("label", "labels", "target", "class")
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
PARTS = {"train": ("train",), "validation": ("validation", "valid", "dev", "val"), "test": ("test",)}
MOST_TOKENS = 512
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
    has some, else in alphabetical order. Rows without text or label are left out, with a warning.

    Args:
        rows: by column.
        encode: a tokenizer.
        source: where they come from, in words.
        classes: those of the parts before; None where this is the first.
        named: columns by name.
    """
    if not rows:
        raise TaskError(f"{source} holds no rows")
    columns = list(rows[0])
    label = next((name for name in _wanted(named.label if named else "", LABELS) if name in columns), None)
    known = (named.text,) if named and named.text else TEXTS
    texts = next((names for names in known if set(names) <= set(columns)), None)
    if label is None or texts is None:
        raise TaskError(
            f"{source} has the columns {', '.join(columns)}; it needs a label "
            f"({', '.join(_wanted(named.label if named else '', LABELS))}) and a text "
            f"({', '.join(' + '.join(names) for names in known)}): name them, as in tsv:train=FILE,text=...,label=..."
        )
    labelled = [row for row in rows if str(row.get(label)).strip() not in ("", "-1", "None")]
    kept = [row for row in labelled if all(row.get(name) is not None for name in texts)]
    if not kept:
        raise TaskError(f"{source} has no labels in column {label!r}, or no texts beside them")
    for what, lost in (("label", len(rows) - len(labelled)), ("text", len(labelled) - len(kept))):
        if lost:
            logger.warning("%s: %d of %d rows have no %s and are left out", source, lost, len(rows), what)
    numbers, classes = numbered([str(row[label]).strip() for row in kept], source, classes, encode)
    tokens = encode(
        *([str(row[name]) for row in kept] for name in texts),
        truncation=True,
        max_length=min(MOST_TOKENS, int(getattr(encode, "model_max_length", MOST_TOKENS))),
    )
    ids = tuple(torch.tensor(row, dtype=torch.int32) for row in tokens["input_ids"])
    two = len(texts) > 1 and "token_type_ids" in tokens
    types = tuple(torch.tensor(row, dtype=torch.int8) for row in tokens["token_type_ids"]) if two else ()
    padding = getattr(encode, "pad_token_id", None)
    return TokenData(ids, torch.tensor(numbers), classes, types, 0 if padding is None else int(padding)), classes


def numbered(
    labels: Sequence[str], source: str, classes: tuple[str, ...] | None, encode: Encode
) -> tuple[list[int], tuple[str, ...]]:
    """Labels as numbers, and the names of the classes in their order; arguments as of `encoded`.

    Raises:
        TaskError: some are names and some are numbers, or the names are not those of train or of the model.
    """
    numeric = {label.isdigit() for label in labels}
    if len(numeric) > 1 or (classes is not None and numeric == {bool(classes)}):
        others = "" if len(numeric) > 1 else ", unlike train's"
        raise TaskError(f"{source} has labels that are numbers and labels that are names{others}: use one of both")
    if numeric == {True}:
        return [int(label) for label in labels], ()
    there, whose = set(labels), "train's are {}"
    if not classes:
        classes = tuple(getattr(encode, "class_names", ())) or tuple(sorted(there))
        whose = "the model's classes are {}: name them alike, or number them"
        spelt = {label.casefold(): label for label in there}
        classes = tuple(spelt.get(name.casefold(), name) for name in classes)
    if unknown := sorted(there - set(classes)):
        raise TaskError(f"{source} has the labels {', '.join(unknown)}; {whose.format(', '.join(classes))}")
    return [classes.index(label) for label in labels], classes


def _wanted(name: str, known: Sequence[str]) -> Sequence[str]:
    return (name,) if name else known


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
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        if kind == ".jsonl":
            yield from (json.loads(line) for line in lines if line.strip())
        elif kind == ".tsv":  # no quoting: quotation marks are text
            yield from csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        else:
            yield from csv.DictReader(lines)


def _format(path: Path) -> str | None:
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return suffix if suffix in FORMATS else None


def file_of(folder: Path, names: Sequence[str], formats: Callable[[Path], object] = _format) -> Path | None:
    """The file of a folder that is called by one of these names, the first that there is."""
    files = sorted(file for file in folder.iterdir() if formats(file))
    return next((file for name in names for file in files if file.name.split(".")[0].split("-")[0] == name), None)
