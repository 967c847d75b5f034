"""Data as files and columns by name: ``tsv:train=FILE,test=FILE,text=sentence,label=label``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from coldpress.errors import TaskError

KINDS = ("tsv", "csv", "jsonl", "parquet", "txt")
PARTS = ("train", "validation", "test")
COLUMNS = ("text", "label")


@dataclass(frozen=True)
class Named:
    """Files by part, and the columns that hold the text (or two texts) and the label.

    Attributes:
        kind: the files' format, one of KINDS.
        files: by part: "train", "validation", "test".
        text: columns of the texts; empty where they are not named.
        label: column of the labels; "" where it is not named.
    """

    kind: str
    files: dict[str, Path] = field(default_factory=dict)
    text: tuple[str, ...] = ()
    label: str = ""


def is_named(name: str) -> bool:
    """Whether a data name is of this form."""
    kind, colon, rest = name.partition(":")
    return bool(colon) and kind in KINDS and "=" in rest


def parse(name: str) -> Named:
    """Read a name of this form; two texts are joined by a plus: ``text=question+sentence``.

    >>> parse("csv:train=a.csv,text=question+answer,label=entailed").text
    ('question', 'answer')

    Raises:
        TaskError: a word in it is unknown, or it names no file, or a file that does not exist.
    """
    kind, _, rest = name.partition(":")
    given: dict[str, str] = {}
    for part in rest.split(","):
        key, equals, value = part.partition("=")
        if key not in (*PARTS, *COLUMNS) or not equals or not value:
            known = ", ".join(f"{word}=..." for word in (*PARTS, *COLUMNS))
            raise TaskError(f"{part!r} in the data {name!r} is not known; write {kind}:{known}")
        given[key] = value
    files = {part: Path(given[part]).expanduser() for part in PARTS if part in given}
    if not files:
        raise TaskError(f"the data {name!r} names no file; write {kind}:train=FILE, or test=FILE")
    for part, path in files.items():
        if not path.is_file():
            raise TaskError(f"there is no file {path}, which the data names as {part}; check --data")
    text = tuple(given["text"].split("+")) if "text" in given else ()
    return Named(kind, files, text, given.get("label", ""))
