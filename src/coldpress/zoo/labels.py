"""Labels of texts: whole numbers from 0, or names, numbered as the model numbers its classes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from coldpress.errors import TaskError

COLUMNS = ("label", "labels", "target", "class")
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")


def label_of(value: Any, source: str, column: str) -> str:
    """A label as it is written, whole numbers without a point; "" where there is none, or -1.

    Raises:
        TaskError: it is a list or such, a fraction, or below -1.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    word = str(value).strip()
    number = float(word) if isinstance(value, float) or NUMBER.fullmatch(word) else None
    whole = number is None or (number.is_integer() and number >= -1)
    if not isinstance(value, str | int | float) or not whole:
        raise TaskError(
            f"{source} has the label {word} in column {column!r}; each text needs one class, a whole number from 0 or "
            "a name: give another column (label=...), or labels of that kind"
        )
    word = word if number is None else str(int(number))
    return "" if word in ("-1", "None") else word


def numbered(
    labels: Sequence[str], source: str, classes: tuple[str, ...] | None, class_names: tuple[str, ...]
) -> tuple[list[int], tuple[str, ...]]:
    """Labels as numbers, and the names of the classes in their order, ``()`` where labels are numbers.

    Args:
        labels: as `label_of` gives them.
        source: where they come from, in words.
        classes: those of the parts before; None where this is the first.
        class_names: the model's, ``()`` where it has none: then names are numbered in alphabetical order.

    Raises:
        TaskError: some are names and some are numbers, or the names are not those of train or of the model.
    """
    numeric = {label.isdecimal() for label in labels}
    if len(numeric) > 1 or (classes is not None and numeric == {bool(classes)}):
        others = "" if len(numeric) > 1 else ", unlike train's"
        raise TaskError(f"{source} has labels that are numbers and labels that are names{others}: use one of both")
    if numeric == {True}:
        return [int(label) for label in labels], ()
    there, whose = set(labels), "train's are {}"
    if not classes:
        classes = class_names or tuple(sorted(there))
        whose = "the model's classes are {}: name them alike, or number them"
        spelt = {label.casefold(): label for label in there}
        classes = tuple(spelt.get(name.casefold(), name) for name in classes)
    if unknown := sorted(there - set(classes)):
        raise TaskError(f"{source} has the labels {', '.join(unknown)}; {whose.format(', '.join(classes))}")
    return [classes.index(label) for label in labels], classes
