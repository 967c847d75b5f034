"""Where measured times are kept."""

from __future__ import annotations

import os
from pathlib import Path

from coldpress.runtime.devices import Device, device

__all__ = ["Device", "cache_folder", "device"]


def cache_folder() -> Path:
    """The folder for what is worth keeping between runs: COLDPRESS_CACHE, else ~/.cache/coldpress."""
    return Path(os.environ.get("COLDPRESS_CACHE") or Path.home() / ".cache" / "coldpress")
