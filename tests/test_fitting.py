"""A limit on memory is kept for real, and what cannot be kept is told early, with what would do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import coldpress as cp
from coldpress.errors import BudgetError, ExportError
from coldpress.runtime import export
from coldpress.runtime.limits import SYSTEM, check_bare, run_within

pytestmark = pytest.mark.skipif(not SYSTEM, reason="only Linux limits a process' data")

FEW = {"units": ("width",), "calibration": 16, "refit_images": 16, "random_plans": 3, "refit_plans": 0}
FEW |= {"rounds": 0, "epochs": 0, "solver": "greedy"}


def advised(message: object) -> str:
    found = re.search(r"give --memory (\d+MB)", str(message))
    assert found is not None, message
    return found[1]


def task_of(model: nn.Module, shape: tuple[int, ...], **more: object) -> cp.Task:
    x = torch.randn(96, *shape, generator=torch.Generator().manual_seed(0))
    batches = [(x[i : i + 32], torch.arange(32) % 4) for i in range(0, 96, 32)]
    return cp.Task(model.eval(), x[:1], train=batches[:2], test=batches[2:], **more)


def test_memory_is_limited_for_real_and_the_advice_does(tmp_path: Path) -> None:
    wide = nn.Sequential(nn.Linear(2000, 8000), nn.ReLU(), nn.Linear(8000, 10))
    path = export(wide, (torch.randn(2, 2000),), tmp_path / "wide.onnx")
    inputs = [np.zeros((1, 2000), np.float32)]
    with pytest.raises(BudgetError, match=r"does not run within 90 MB ") as told:
        run_within(path, inputs, 90_000_000)
    enough = 10**6 * int(advised(told.value).removesuffix("MB"))
    large = np.ones(10**8)  # of this process, not of the file's
    found = run_within(path, inputs, enough)
    assert 64_000_000 < found.data <= enough
    assert 64_000_000 < found.peak < large.nbytes
    assert found.median > 0
    assert not list(tmp_path.glob("*.npz"))


def test_a_file_that_never_runs_is_not_blamed_on_memory(tmp_path: Path) -> None:
    (tmp_path / "none.onnx").write_bytes(b"no network")
    with pytest.raises(ExportError, match="with any --memory"):
        run_within(tmp_path / "none.onnx", [np.zeros(1, np.float32)], 10**9)


def test_less_than_the_runtime_takes_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    task = task_of(nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 4)), (8,))
    with pytest.raises(BudgetError, match="Python and ONNX Runtime do not run within 1 MB") as told:
        cp.compress(task, cp.Budget(macs="50%"), memory="1MB", out=tmp_path / "run", **FEW)
    assert list(tmp_path.iterdir()) == []
    check_bare(10**6 * int(advised(told.value).removesuffix("MB")))


def test_memory_that_no_file_fits_into_is_told(tmp_path: Path) -> None:
    layers = (nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 6000), nn.ReLU(), nn.Linear(6000, 8000), nn.Linear(8000, 4))
    task = task_of(nn.Sequential(*layers), (8,), ignored_layers=("2", "4", "5"))
    with pytest.raises(BudgetError, match=r"no plan can meet size <= 150 MB"):
        cp.predict(task, cp.Budget(macs="99%"), memory="150MB", **FEW)


def test_a_network_that_takes_too_much_is_told_before_training_and_the_advice_goes_on(tmp_path: Path) -> None:
    layers = (nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4))
    task = task_of(nn.Sequential(*layers), (3, 16, 16))

    def compress(memory: str) -> cp.Result:
        settings = {**FEW, "batch": 1024, "epochs": 1, "lr": 1e-6}
        return cp.compress(task, cp.Budget(macs="80%"), memory=memory, out=tmp_path / "run", **settings)

    with pytest.raises(BudgetError, match="Python and ONNX Runtime") as told:
        compress("1MB")
    bare = int(advised(told.value).removesuffix("MB"))
    with pytest.raises(BudgetError, match=r"model\.onnx does not run within") as told:
        compress(f"{bare + 8}MB")
    assert not (tmp_path / "run.partial" / "recovered.safetensors").exists()
    result = compress(advised(told.value))
    assert result.metrics["memory"]["data"] <= result.metrics["memory"]["limit"]
    steps = [json.loads(line).get("step") for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    for step in ("energy", "plan", "student"):
        assert steps.count(step) == 1
