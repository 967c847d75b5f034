"""Labelled texts from data sets of the Hugging Face hub, or from folders that ``datasets`` reads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coldpress.errors import TaskError, first_line
from coldpress.tokens import TokenData
from coldpress.zoo import hub, labels, text
from coldpress.zoo.encoding import Encode

logger = logging.getLogger("coldpress.zoo")


def read(name: str, encode: Encode, seed: int = 0) -> text.Parts:
    """Train, validation and test data of a data set.

    Labels that the data set has names for are numbered as the model numbers classes of these names; where the model
    has none, or quite other ones, as the data set numbers them. Parts without labels are left out.

    Args:
        name: ``owner/name``, ``owner/name/configuration``, ``name`` or ``name/configuration``; or a folder.
        encode: a tokenizer.
        seed: of the splits.

    Raises:
        TaskError: datasets is not installed, there is no such data set, or no part of it that is known has labels.
    """
    whole = _load(name)
    found: dict[str, TokenData | None] = dict.fromkeys(text.PARTS)
    classes: tuple[str, ...] | None = None
    for part, splits in text.PARTS.items():
        split: Any = next((whole[key] for key in splits if key in whole), [])
        column = next((key for key in labels.COLUMNS if key in getattr(split, "column_names", ())), None)
        names = tuple(getattr(split.features[column], "names", None) or ()) if column else ()
        rows = list(split)
        if not any(column is None or row[column] not in (None, -1) for row in rows):
            continue
        source = f"hf:{name}, {part}"
        if column and names and not any(labels.NUMBER.fullmatch(label) for label in names):
            rows = [{**row, column: None if row[column] in (None, -1) else names[row[column]]} for row in rows]
            classes = classes or _order(names, getattr(encode, "class_names", ()), source)
        found[part], classes = text.encoded(rows, encode, source, classes)
    if not any(part is not None for part in found.values()):
        wanted = ", ".join(name for names in text.PARTS.values() for name in names)
        raise TaskError(
            f"the data set hf:{name} has the splits {', '.join(whole)}; none of those that are read ({wanted}) has "
            "labelled rows: save the splits to files, and name them, as in tsv:train=FILE,test=FILE"
        )
    return text.completed(found["train"], found["validation"], found["test"], seed)


def _load(name: str) -> Any:
    """A data set. ``a/b`` is b of the owner a, or else the configuration b of the data set a, as in glue/sst2."""
    datasets = hub.library("datasets", f"hf:{name}")
    folder, parts = Path(name).expanduser(), name.split("/")
    if folder.is_dir():
        tries: list[tuple[str, ...]] = [(str(folder),)]
    elif name.startswith((".", "/", "~")):
        raise TaskError(f"there is no folder {name}; give one that datasets reads, or a name on the hub")
    elif len(parts) == 2:
        tries = [(name,), (parts[0], parts[1])]
    else:
        tries = [("/".join(parts[:2]), *parts[2:])]
    errors = []
    for arguments in tries:
        try:
            return datasets.load_dataset(*arguments)
        except Exception as error:  # the library raises errors of many kinds where there is no network
            errors.append(error)
    told = "; ".join(dict.fromkeys(map(first_line, errors)))
    raise TaskError(f"the data set hf:{name} cannot be had: {told}") from errors[0]


def _order(names: Sequence[str], model: Sequence[str], source: str) -> tuple[str, ...] | None:
    """The data set's names of classes in the model's order, in its own where the model's are quite others.

    None where only some of the names are the model's.
    """
    spelt = {name.casefold(): name for name in names}
    known = spelt.keys() & {name.casefold() for name in model}
    if known:
        return tuple(spelt.get(name.casefold(), name) for name in model) if len(known) == len(spelt) else None
    if model:
        logger.warning("%s: its classes %s are taken for the model's %s, in this order", source, names, model)
    return tuple(names)
