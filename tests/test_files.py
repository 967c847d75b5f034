"""Written beside and renamed: the old file or the new one, never half of one."""

import resource
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from coldpress.files import beside, write_tensors, write_text


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "new" / "a.txt", "old")

    def stopped() -> None:
        with beside(path) as place:
            place.write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stopped()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_tensors_are_as_readable_as_any_other_file(tmp_path: Path) -> None:
    values = {"a": torch.arange(6.0).view(2, 3).T}
    path, text = write_tensors(tmp_path / "a.safetensors", values), write_text(tmp_path / "a.txt", "")
    assert torch.equal(load_file(path)["a"], values["a"])
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(text.stat().st_mode)


def test_a_disk_that_takes_no_more_is_an_os_error(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = write_tensors(tmp_path / "a.safetensors", {"a": torch.ones(1)})
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(OSError, match="too large"):
            write_tensors(old, {"a": torch.zeros(1000)})
        with pytest.raises(OSError, match="too large"):
            write_text(tmp_path / "a.txt", 1000 * "text")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert torch.equal(load_file(old)["a"], torch.ones(1))
    assert list(tmp_path.iterdir()) == [old]
