"""Folders of reproduced results: a head and rows as JSON, and the same as tables."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from coldpress import __version__
from coldpress.artifact import check_parent
from coldpress.errors import ArtifactError, TaskError
from coldpress.files import write_text
from coldpress.proof import reproduce_command, versions
from coldpress.recipe import Recipe
from coldpress.recovery.parallel import check_alone
from coldpress.runtime.devices import device

RESULTS, TABLE = "results.json", "table.md"


def head(recipe: Recipe, **settings: Any) -> dict[str, Any]:
    """What a run is told by: its command, versions, machine and settings."""
    found = {"command": reproduce_command(), "versions": versions(), "device": device(1).summary()}
    return {**found, **settings, "model": recipe.model, "data": recipe.data}


def same(**settings: Any) -> dict[str, Any]:
    """What must be the same for a run to go on: these settings, coldpress' version and the machine that times."""
    return {**settings, "version": __version__, "machine": device(1).fingerprint}


def check_scale(scale: str, scales: Collection[str]) -> None:
    """Raise TaskError for an unknown scale, or where several processes were started to train together."""
    if scale not in scales:
        raise TaskError(f"scale is {scale!r}; choose {', '.join(scales)}")
    check_alone("reproduce")


def begin(folder: Path, overwrite: bool, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What an earlier run left in a folder, if this one goes on with it; else nothing.

    Args:
        folder: of the results; it is made when they are written.
        overwrite: begin anew in a folder that holds results.
        settings: what must be the same for a run to go on; None goes on with none.

    Raises:
        ArtifactError: the folder cannot be written, holds no results, or those of other settings.
    """
    check_parent(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / RESULTS).is_file():
            raise ArtifactError(f"{folder} holds no results, so nothing is written to it; choose another --out")
        found = _read(folder / RESULTS, overwrite)
        if not overwrite and settings is None:
            raise ArtifactError(f"{folder} exists; choose another --out, or give --overwrite to replace it")
        if not overwrite and found.get("settings") != json.loads(json.dumps(settings)):
            theirs = found.get("settings") or {}
            ours = json.loads(json.dumps(settings or {}))
            other = [
                key if key in theirs else f"{key}, which they do not tell"
                for key, value in ours.items()
                if theirs.get(key) != value
            ]
            other += [f"{key}, which is at its default now" for key in theirs if key not in ours]
            raise ArtifactError(
                f"{folder} holds results of other settings ({', '.join(other) or 'none are told'}); choose another "
                "--out, or give --overwrite to start anew"
            )
        return {} if overwrite else found
    return {}


def write(folder: Path, results: Mapping[str, Any], table: str) -> None:
    """Put the results as they are now into the folder."""
    write_text(folder / RESULTS, json.dumps(results, indent=1))
    write_text(folder / TABLE, table)


def shown(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table for the terminal; first and last column are words."""
    found = Table(title=title, title_style="dim")
    for i, name in enumerate(heads):
        found.add_column(name, justify="right" if 0 < i < len(heads) - 1 else "left")
    for row in rows:
        found.add_row(*map(escape, row))
    return found


def as_markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a page."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def _read(path: Path, overwrite: bool) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        if overwrite:
            return {}
        raise ArtifactError(f"{path} cannot be read: {error}; choose another --out, or give --overwrite") from error
