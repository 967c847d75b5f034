"""Where decoded and downloaded data is kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """The environment variable COLDPRESS_CACHE, by default ``~/.cache/coldpress``."""
    folder = os.environ.get("COLDPRESS_CACHE")
    return Path(folder) if folder else Path.home() / ".cache" / "coldpress"
