"""Names of models and data whose files are told by their full paths, so that they hold in another folder too."""

from __future__ import annotations

import os
from pathlib import Path

from coldpress.zoo.data import data_names
from coldpress.zoo.hub import PREFIX
from coldpress.zoo.named import PARTS, is_named


def full_path(text: str) -> str:
    """The full path of a file or folder that is there; any other text as it is."""
    path = Path(text).expanduser()
    return os.path.abspath(path) if path.exists() else text  # links are kept: what they lead to may have no suffix


def placed_model(name: str) -> str:
    """A model's name, ``hf:FOLDER`` and ``file.py:factory`` with full paths."""
    if name.startswith(PREFIX):
        return PREFIX + full_path(name.removeprefix(PREFIX))
    file, _, factory = name.rpartition(":")
    return f"{full_path(file)}:{factory}" if file.endswith(".py") else name


def placed_data(name: str) -> str:
    """A data name, its folder or files by full paths: ``folder:PATH``, ``tsv:train=FILE,...``, a file or folder."""
    if name in data_names():
        return name
    kind, _, rest = name.partition(":")
    if is_named(name):
        pairs = [part.partition("=")[::2] for part in rest.split(",")]
        placed = [(key, full_path(value) if key in PARTS else value) for key, value in pairs]
        fits = not any("," in value for _, value in placed)  # a comma in the folder above would part the name
        return f"{kind}:" + ",".join(f"{key}={value}" for key, value in placed) if fits else name
    return f"{kind}:{full_path(rest)}" if kind in ("folder", "hf") and rest else full_path(name)
