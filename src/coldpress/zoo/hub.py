"""What models, tokenizers and data sets of Hugging Face share: library, place and configuration."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from coldpress.errors import TaskError, first_line

PREFIX = "hf:"


def library(module: str, name: str) -> Any:
    """A module that ``name`` needs. Raises TaskError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TaskError(f"{name} needs {module}; install it with: pip install 'coldpress[hf]'") from error


def place(name: str) -> str:
    """A model's folder, or its name on the hub. Raises TaskError where it can only be a folder, and is none."""
    path = Path(name)
    if path.is_dir() and not (path / "config.json").is_file():
        raise TaskError(f"{path} holds no config.json; give a folder that save_pretrained wrote")
    if name.startswith((".", "/", "~")) and not path.expanduser().is_dir():
        raise TaskError(f"there is no folder {name}; give a folder that save_pretrained wrote, or a name on the hub")
    return str(path.expanduser()) if path.expanduser().is_dir() else name


def configuration(name: str, **more: Any) -> Any:
    """A model's configuration, with ``more`` in place of its own. Raises TaskError where none can be read."""
    transformers = library("transformers", f"{PREFIX}{name}")
    try:
        return transformers.AutoConfig.from_pretrained(place(name), trust_remote_code=False, **more)
    except (OSError, ValueError) as error:
        raise TaskError(f"{PREFIX}{name} has no configuration that can be read: {first_line(error)}") from error
