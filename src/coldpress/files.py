"""Files are written beside their place and renamed: a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

PARTIAL = ".part"


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A place to write; what lies there when the block ends becomes ``path``. Where it fails, nothing is left.

    Raises:
        OSError: the folder cannot be made or the file not be renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    place = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        yield place
        place.chmod(0o666 & ~_UMASK)  # safetensors makes files that only their owner can read
        place.replace(path)
    finally:
        place.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a text file; see `beside`."""
    with beside(path) as place:
        place.write_text(text, encoding="utf-8")
    return path


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """Write a safetensors file; see `beside`. Tensors that share memory are written one by one; a full disk is an
    OSError here too.
    """
    own: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        own[name] = tensor.detach().clone() if memory in seen else tensor.detach().contiguous()
        seen.add(memory)
    with beside(path) as place:
        try:
            save_file(own, place, dict(metadata or {}) or None)
        except SafetensorError as error:
            raise OSError(str(error)) from error
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()
