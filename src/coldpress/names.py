"""Names that a user gives, and those that they may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from coldpress.errors import PlanError

Value = TypeVar("Value")


def meant(name: str, known: Iterable[str], most: int = 2) -> str:
    """Known names near ``name``, as the end of a message: ``; did you mean 'latency'?``, or nothing.

    Args:
        name: what was given.
        known: what there is.
        most: how many to name.
    """
    near = difflib.get_close_matches(name, list(known), n=most, cutoff=0.4)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def called(name: str, known: Mapping[str, Value], what: str) -> Value:
    """What is called ``name``. Raises PlanError, with what there is, for an unknown ``what``."""
    if name not in known:
        raise PlanError(f"unknown {what} {name!r}; there are {', '.join(known)}{meant(name, known)}")
    return known[name]


def listed(known: Iterable[str], most: int = 12) -> str:
    """The names there are, in a line that stays short."""
    names = sorted(known)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
