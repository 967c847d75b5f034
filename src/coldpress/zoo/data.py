"""Data sets by name, for the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset

from coldpress.data import MemoryData
from coldpress.errors import TaskError
from coldpress.names import listed, meant
from coldpress.splits import split
from coldpress.windows import WindowData
from coldpress.zoo import cifar10, fashion_mnist, folder, hub_data, plain_text, text
from coldpress.zoo.named import Named, is_named, parse
from coldpress.zoo.vision import ImageForm


@dataclass(frozen=True)
class Splits:
    """Disjoint data sets for a Task: ``Task(model, examples, **splits.arguments())``."""

    train: Any
    validation: Any
    test: Any
    tokenizer: Any = None

    def arguments(self) -> dict[str, Any]:
        """The three, the tokenizer where there is one, and a decoder's metric, as keyword arguments of Task."""
        more = {} if self.tokenizer is None else {"tokenizer": self.tokenizer}
        if isinstance(self.train or self.validation or self.test, WindowData):
            more["metric"] = "log_likelihood"
        return {"train": self.train, "validation": self.validation, "test": self.test, **more}

    def prepared(self, form: ImageForm | None) -> Splits:
        """The same images in the form that a model wants; None leaves them."""
        if form is None:
            return self
        return replace(self, **{part: form.of(getattr(self, part)) for part in ("train", "validation", "test")})

    def whole(self) -> Splits:
        """The same data with validation joined to train, for training where nothing is left to decide."""
        if self.train is None or self.validation is None:
            return self
        if isinstance(self.train, MemoryData) and isinstance(self.validation, MemoryData):
            return replace(self, train=self.train.joined(self.validation), validation=None)
        return replace(self, train=ConcatDataset([self.train, self.validation]), validation=None)


def data(
    name: str,
    data_dir: str | Path | None = None,
    seed: int = 0,
    tokenizer: Any = None,
    window: int | None = None,
) -> Splits:
    """Read a data set by name.

    Args:
        name: one of `data_names()`; ``folder:PATH`` for an image folder (``PATH/<class>/*.png``, or with the
            sub-folders train, and validation or test, of such folders); the path of a file of texts, or of a folder
            of such files (see `coldpress.zoo.text`); the same with files and columns by name, ``tsv:train=FILE,
            test=FILE,text=COLUMN,label=COLUMN`` (see `coldpress.zoo.named`); plain text for decoders, a file or folder
            of ``.txt``; or ``hf:NAME`` for a data set of the Hugging Face hub.
        data_dir: where the files are; the environment variable COLDPRESS_DATA where None. ``cifar10`` and
            ``fashion-mnist`` are downloaded there, or into the cache, when missing.
        seed: of the validation split, where the data set has none of its own.
        tokenizer: of the model, for texts; plain text without one is read as bytes.
        window: tokens in a window of plain text, 128 by default.

    Returns:
        Train, validation and test data. Exact duplicates across the splits are taken out of train.

    Raises:
        TaskError: the name is unknown (near ones are named), or files are missing or cannot be read.
    """
    prefix, _, path = name.partition(":")
    if prefix == "folder":
        if not path:
            raise TaskError("folder: names no path; write folder:PATH")
        return Splits(*folder.read(Path(path), seed))
    named = parse(name) if is_named(name) else None
    plain = _plain_files(name, named)
    if plain:
        return Splits(*plain_text.read(plain, tokenizer, window or plain_text.WINDOW), tokenizer)
    if named or prefix == "hf" or (name not in _READERS and text.is_text(name)):
        if tokenizer is None:
            raise TaskError(f"{name} holds texts; they need a model with a tokenizer: --model hf:FOLDER_OR_NAME")
        if named:
            return Splits(*text.read_named(named, tokenizer, seed), tokenizer)
        found = hub_data.read(path, tokenizer, seed) if prefix == "hf" else text.read(Path(name), tokenizer, seed)
        return Splits(*found, tokenizer)
    if name not in _READERS:
        raise TaskError(f"no data is called {name!r}; there are {listed(data_names())}{meant(name, data_names())}")
    given = data_dir or os.environ.get("COLDPRESS_DATA")
    if given is not None and not Path(given).is_dir() and name != "fashion-mini":
        raise TaskError(f"the data folder {given} does not exist; check --data-dir or COLDPRESS_DATA")
    train, validation, test = _READERS[name](Path(given) if given is not None else None)
    train = train.without(test)
    if validation is None:
        train, validation = split(train, seed)
    else:
        train = train.without(validation)
    return Splits(train, validation, test)


def _plain_files(name: str, named: Named | None) -> dict[str, Path]:
    """The files of plain text that a name means, by part; none where it means something else."""
    if named is not None:
        return named.files if named.kind == "txt" else {}
    path = Path(name)
    if path.suffix == plain_text.SUFFIX:
        if not path.is_file():
            raise TaskError(f"there is no text file {path}; check --data")
        return {"train": path}
    if name in _READERS or not path.is_dir():
        return {}

    def plain(file: Path) -> bool:
        return file.suffix == plain_text.SUFFIX

    files = {part: text.file_of(path, names, plain) for part, names in text.PARTS.items()}
    return {part: file for part, file in files.items() if file is not None}


def data_names() -> tuple[str, ...]:
    """The names that `data` knows, besides ``folder:PATH``."""
    return tuple(sorted(_READERS))


_Reader = Callable[[Path | None], tuple[MemoryData, MemoryData | None, MemoryData]]
_READERS: dict[str, _Reader] = {
    "cifar10": cifar10.read_published,
    "cifar10-jpeg": cifar10.read_jpeg,
    "fashion-mini": fashion_mnist.read_mini,
    "fashion-mnist": fashion_mnist.read_whole,
}
