"""Processes that accelerate launched train together, to the weights of one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import trained_together
from trained_together import distilled, stopper

from coldpress.errors import TaskError
from coldpress.recovery.parallel import Processes, processes

HERE = Path(trained_together.__file__)


def launch(count: int, *command: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("accelerate", reason="needs the extra coldpress[distributed]")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(count)]
    start += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    start += ["--main_process_port", str(port), *command]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths}
    return subprocess.run(start, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes ended with; trainings that one process had begun were theirs to finish."""
    folder = tmp_path_factory.mktemp("together")
    for name, hints in (("stopped", None), ("projected", {"2": None})):
        with pytest.raises(KeyboardInterrupt):
            distilled(hints, checkpoint_dir=folder / name, on_epoch=stopper(1))
    done = launch(2, str(HERE), str(folder))
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{index}.pt", weights_only=True) for index in range(2)]


@pytest.mark.slow
def test_two_processes_end_with_equal_weights(trained: list[dict[str, Any]]) -> None:
    assert [found["count"] for found in trained] == [2, 2]
    for name, weights in trained[0]["weights"].items():
        other = trained[1]["weights"][name]
        assert all(torch.equal(weights[key], other[key]) for key in weights), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distilled", "stopped"])
def test_two_processes_train_as_one(trained: list[dict[str, Any]], name: str) -> None:
    alone = distilled().state_dict()
    for key, weights in trained[0]["weights"][name].items():
        assert torch.allclose(weights, alone[key], atol=1e-5), key
    start = trained_together.net(5).state_dict()
    assert not all(torch.allclose(alone[key], start[key], atol=1e-2) for key in alone)


@pytest.mark.slow
def test_the_main_process_alone_tells_of_epochs(trained: list[dict[str, Any]]) -> None:
    assert trained[0]["epochs"] == {"distilled": [0, 1, 2, 3], "stopped": [2, 3]}
    assert trained[1]["epochs"] == {"distilled": [], "stopped": []}


@pytest.mark.slow
def test_what_plans_by_measured_times_is_refused(trained: list[dict[str, Any]]) -> None:
    assert all("launched as 2 processes" in found["refused"] for found in trained)


@pytest.mark.slow
def test_the_train_command_is_launched_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
    )
    command = ["-m", "coldpress", "train", "--model", f"{tmp_path}/net.py:net", "--data", "fashion-mini"]
    done = launch(2, *command, "--epochs", "1", "--out", str(tmp_path / "net.safetensors"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Wrote ") == 1
    assert (tmp_path / "net.safetensors").is_file()


def test_several_processes_need_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    processes.cache_clear()
    with pytest.raises(TaskError, match=r"coldpress\[distributed\]"):
        processes()
    monkeypatch.undo()
    assert processes().count == 1


def test_one_process_takes_every_batch_whole() -> None:
    batch = torch.arange(5)
    assert torch.equal(processes().share(batch), batch)
    shares = [Processes(2, index).share(batch).tolist() for index in range(2)]
    assert sorted([*shares[0], *shares[1]]) == batch.tolist()
