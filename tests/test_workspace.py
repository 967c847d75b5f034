"""A stopped run goes on from its last step; another run starts anew; nothing foreign is thrown away."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from coldpress.errors import ArtifactError
from coldpress.workspace import Workspace, explained


class Stopped(BaseException):
    """Ctrl-C, as far as a step can tell."""


def test_finished_steps_are_taken_from_a_stopped_run(tmp_path: Path) -> None:
    def never() -> Any:
        raise AssertionError("computed again")

    work = Workspace(tmp_path / "run", "key")
    assert not work.resumed
    values, tensors = work.json("a", lambda: {"x": [1, 2.5]}), work.tensors("b", lambda: {"t": torch.arange(3)})
    with pytest.raises(Stopped):
        work.json("c", lambda: (_ for _ in ()).throw(Stopped()))
    again = Workspace(tmp_path / "run", "key")
    assert again.resumed
    assert again.json("a", never) == values == {"x": [1, 2.5]}
    assert torch.equal(again.tensors("b", never)["t"], tensors["t"])
    assert again.json("c", lambda: 3) == 3
    log = [json.loads(line) for line in again.path("log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["done"]) for line in log] == [("a", True), ("b", True), ("c", False), ("c", True)]
    again.close()
    assert list(tmp_path.iterdir()) == []


def test_another_key_starts_anew(tmp_path: Path) -> None:
    Workspace(tmp_path / "run", "one").json("a", lambda: 1)
    other = Workspace(tmp_path / "run", "two")
    assert not other.resumed
    assert other.json("a", lambda: 2) == 2
    assert Workspace(tmp_path / "run", "two").resumed


def test_half_written_results_are_computed_again(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "run", "key")
    work.json("a", lambda: list(range(50)))
    work.tensors("b", lambda: {"t": torch.ones(5)})
    for name in ("a.json", "b.safetensors"):
        whole = work.path(name).read_bytes()
        work.path(name).write_bytes(whole[: len(whole) // 2])
    again = Workspace(tmp_path / "run", "key")
    assert again.json("a", lambda: "new") == "new"
    assert torch.equal(again.tensors("b", lambda: {"t": torch.zeros(2)})["t"], torch.zeros(2))


def test_a_run_stopped_before_its_key_was_written_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "run.partial").mkdir()
    assert not Workspace(tmp_path / "run", "key").resumed


def test_a_foreign_folder_of_that_name_is_not_thrown_away(tmp_path: Path) -> None:
    foreign = tmp_path / "run.partial"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(ArtifactError, match=r"run\.partial"):
        Workspace(tmp_path / "run", "key")
    assert (foreign / "thesis.txt").read_text() == "irreplaceable"


def full(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("what", ["json", "tensors"])
def test_a_full_disk_is_explained_and_finished_steps_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    work = Workspace(tmp_path / "run", "key")
    work.json("a", lambda: 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        patch.setattr(os, "rename", full)
        with pytest.raises(ArtifactError, match=r"cannot write .*No space left.*finished steps are kept"):
            work.json("b", lambda: 2) if what == "json" else work.tensors("b", lambda: {"t": torch.ones(2)})
    again = Workspace(tmp_path / "run", "key")
    assert again.json("a", lambda: 0) == 1
    assert again.json("b", lambda: 3) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_device_that_is_full_is_explained(tmp_path: Path) -> None:
    work = Workspace(tmp_path / "run", "key")
    work.path("log.jsonl").symlink_to("/dev/full")
    with pytest.raises(ArtifactError, match="No space left"):
        work.json("a", lambda: 1)


def test_a_folder_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot write"):
        Workspace(tmp_path / "file" / "run", "key")
    with pytest.raises(ArtifactError, match="choose another --out"), explained(tmp_path):
        (tmp_path / "file" / "x").write_text("")


def test_other_limits_plan_anew_with_what_was_measured(tmp_path: Path) -> None:
    def begun(size: float) -> Workspace:
        work = Workspace(tmp_path / "run", "key")
        work.reach({"size": size})
        return work

    work = begun(1e6)
    for name in ("prices", "plan"):
        work.json(name, lambda: 1)
    work.path("checkpoints").mkdir()
    assert begun(1e6).json("plan", lambda: 2) == 1
    other = begun(2e6)
    assert not other.path("checkpoints").exists()
    assert other.json("plan", lambda: 2) == 2
    assert other.json("prices", lambda: 2) == 1
    assert len(other.path("log.jsonl").read_text().splitlines()) == 3
