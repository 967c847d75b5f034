"""Times carry all that is needed to judge them. No test here depends on how fast the machine is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from coldpress.errors import ExportError
from coldpress.runtime import cold, device, export, predict, run, session, time_sessions
from coldpress.runtime.clock import median_interval, ratio_interval

from .nets import residual


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(residual(), (torch.zeros(1, 3, 8, 8),), tmp_path_factory.mktemp("clock") / "model.onnx")


FEEDS = {"input": np.zeros((2, 3, 8, 8), np.float32)}


def test_sides_are_timed_equally_often_and_described(model: Path) -> None:
    timings = time_sessions({"before": session(model), "after": session(model)}, FEEDS, repeats=7, warmup=1)
    assert set(timings) == {"before", "after"}
    for timing in timings.values():
        assert timing.repeats == len(timing.samples) == 7
        assert timing.batch == 2
        assert timing.threads == 1
        assert timing.runtime == f"onnxruntime {onnxruntime.__version__}"
        assert min(timing.samples) <= timing.median <= max(timing.samples)
        assert "samples" not in timing.summary()


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = {"median": 0, "ratio": 0}
    for _ in range(400):
        first, second = 3.0 + rng.exponential(size=101), 1.0 + rng.exponential(size=101)
        low, high = median_interval(first)
        held["median"] += low <= 3.0 + np.log(2) <= high
        low, high = ratio_interval(first, second)
        held["ratio"] += low <= (3.0 + np.log(2)) / (1.0 + np.log(2)) <= high
    assert all(0.91 < count / 400 < 0.99 for count in held.values())


def test_repeats_are_chosen_when_not_given(model: Path) -> None:
    timing = time_sessions({"only": session(model)}, {"only": FEEDS}, precision=1.0)["only"]
    assert timing.repeats == 20
    assert time_sessions({"only": session(model)}, FEEDS, precision=0.0, max_seconds=0.0)["only"].repeats >= 20


def test_cold_times_are_positive(model: Path) -> None:
    assert min(cold(session(model), FEEDS, repeats=3, flush_bytes=1 << 16).samples) > 0


def test_predict_joins_batches(model: Path) -> None:
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8), dtype=np.float32)
    running = session(model)
    whole = run(running, [x])[0]
    np.testing.assert_allclose(predict(running, [[x[:2]], [x[2:]]]), whole, rtol=1e-4, atol=1e-6)


def test_bad_use_is_refused(model: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ExportError, match="cannot open"):
        session(tmp_path / "broken.onnx")
    with pytest.raises(ExportError, match="there is no ONNX file"):
        session(tmp_path / "missing.onnx")
    with pytest.raises(ExportError, match="threads is 0"):
        session(model, threads=0)
    with pytest.raises(ExportError, match="could not run"):
        run(session(model), {"input": np.zeros((1, 4, 8, 8), np.float32)})
    with pytest.raises(ExportError, match="no batch"):
        predict(session(model), [])


def test_a_device_is_named_by_what_decides_its_times() -> None:
    assert device(1).fingerprint == device(1).fingerprint
    assert device(1).fingerprint != device(2).fingerprint
    assert device().summary()["runtime"].startswith("onnxruntime")
