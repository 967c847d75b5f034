"""How the process holds on to memory."""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt(3)
_MOST = (1 << 30, 32 << 20)  # older versions take no more than the second


def keep_freed_memory() -> bool:
    """Keep freed tensors' memory in the process instead of giving it back to the system each time.

    Getting it again costs a page fault for every 4 kB, which slows down runs over large activations. It holds for the
    whole process, so a program says it and a library does not.

    Returns:
        Whether the C library knows how (glibc does).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    kept = any(mallopt(_MMAP_THRESHOLD, size) for size in _MOST)
    return bool(mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)) and kept


def peak_resident() -> int | None:
    """The most bytes that were resident in this process so far; None where the system does not tell (Linux does).

    Not ``ru_maxrss``, which a process takes over from the one that started it.
    """
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else None
