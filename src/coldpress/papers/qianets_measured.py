"""What a row of the experiment on QIANets is measured to be, beside the baseline and beside its control."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from coldpress.deploy import evaluate_file
from coldpress.evaluate import Evaluation, compare
from coldpress.files import beside
from coldpress.papers.qianets_table import CONTROL, CONTROLS
from coldpress.proof import SIDES, measured
from coldpress.recipe import Recipe
from coldpress.runtime.clock import median_interval, ratio_interval
from coldpress.runtime.onnx import export
from coldpress.task import Task


class Measurements:
    """Measures the rows of one baseline.

    Entries are those of metrics.json, with ``intervals``: ``latency_ms`` and ``faster``, 95 % intervals from the runs
    timed; and ``control``: the paired comparison with the row's control, where that was measured before.

    Args:
        task: the baseline and its data.
        folder: where the baseline's file and the controls' predictions are kept.
        seed: of the timing.
    """

    def __init__(self, task: Task, folder: Path, seed: int) -> None:
        self.task, self.folder, self.seed = task, folder, seed

    def of(self, method: str, student: nn.Module) -> dict[str, Any]:
        """Entries for a network, exported in floats."""
        with tempfile.TemporaryDirectory(prefix="coldpress-") as folder:
            path = export(student, self.task.example_inputs, Path(folder) / "network.onnx")
            judged = {SIDES[0]: self._whole, SIDES[1]: self._judged(path)}
            files = dict(zip(SIDES, (self._file, path)))
            metrics, details = measured(self.task, student, files, Recipe(seed=self.seed), judged)
        return self._told(method, metrics, details, judged[SIDES[1]])

    def of_artifact(
        self, method: str, folder: Path, metrics: Mapping[str, Any], details: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Entries for an artifact of `coldpress.compress`, which was measured when it was made."""
        kept = {key: metrics[key] for key in (*SIDES, "comparison")}
        return self._told(method, kept, details, self._judged(folder / "model.onnx"))

    @cached_property
    def _file(self) -> Path:
        path = self.folder / "baseline.onnx"
        if not path.exists():
            with beside(path) as place:
                export(self.task.model, self.task.example_inputs, place)
        return path

    @cached_property
    def _whole(self) -> Evaluation:
        return self._judged(self._file)

    def _judged(self, path: Path) -> Evaluation:
        return evaluate_file(self.task, path, self.task.report_split)

    def _told(
        self, method: str, metrics: Mapping[str, Any], details: Mapping[str, Any], judged: Evaluation
    ) -> dict[str, Any]:
        before, after = (details["latency_samples"][side] for side in SIDES)
        intervals = {"latency_ms": list(median_interval(after)), "faster": list(ratio_interval(before, after))}
        found = {**metrics, "intervals": intervals}
        if method in _KEPT:
            with beside(self._predictions(method)) as place, place.open("wb") as file:
                np.savez(file, labels=judged.labels, predictions=judged.predictions)
        against = CONTROLS.get(method, CONTROL)
        if against != method and self._predictions(against).exists():
            with np.load(self._predictions(against)) as kept:
                control = Evaluation(None, kept["labels"], float("nan"), kept["predictions"])
            found["control"] = asdict(compare(control, judged))
        return found

    def _predictions(self, method: str) -> Path:
        return self.folder / f"predictions-{_KEPT.index(method)}.npz"


_KEPT = tuple(dict.fromkeys((CONTROL, *CONTROLS.values())))
