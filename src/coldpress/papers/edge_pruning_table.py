"""What the experiment on edge pruning is made of: its methods, the published figures, how much is done, and a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

AMOUNTS = (0.10, 0.25)
UNIFORM = 0.15
ITERATIONS = 5
PUBLISHED = (("teacher", 0.9106, 178.64), ("uniform L1, 15 %", 0.9048, 188.90), ("q-bit search", 0.9140, 189.14))
"""Accuracy and milliseconds a sample as the system's authors report them, on DistilBERT and SST-2."""
METHODS = ("legacy", "random", "tpe", "nsga2", "qiea")
BUDGETS = ("latency=50%", "latency=25%")


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        evaluations: of every search.
        seeds: of every search and every plan.
        search: samples of train that searches judge by.
        timed: samples that are timed one by one.
        epochs: of distillation, for the rows "distilled".
        trained: samples of train that it is given; None: all.
        calibration: samples for our energy.
    """

    evaluations: int
    seeds: tuple[int, ...]
    search: int
    timed: int
    epochs: int
    trained: int | None
    calibration: int

    @property
    def population(self) -> int:
        """NSGA-II's: a quarter of its evaluations, so that several generations follow the random one."""
        return max(2, round(self.evaluations / 4))


SCALES = {
    "tiny": Scale(3, (0,), 64, 8, 1, None, 16),
    "short": Scale(20, (0, 1, 2), 512, 100, 1, 8192, 192),
    "paper": Scale(50, (0, 1, 2), 2048, 872, 3, None, 512),
}


@dataclass(frozen=True)
class Row:
    """One method and seed; ``accuracy`` is on the test data.

    Attributes:
        kind: "published", "as published" (searched and reported on the same data) or "corrected".
        method, seed: which.
        accuracy: a fraction; None where it was skipped.
        interval: its 95 % interval.
        milliseconds: of one sample.
        megabytes: of the weights or, of what was deployed, the file.
        sparsity: fraction of zeros.
        note: what to know.
        facts: everything else, JSON-ready.
    """

    kind: str
    method: str
    accuracy: float | None
    seed: int = 0
    interval: tuple[float, float] | None = None
    milliseconds: float | None = None
    megabytes: float | None = None
    sparsity: float = 0.0
    note: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> tuple[str, str, int]:
        """What tells rows apart."""
        return self.kind, self.method, self.seed


def published() -> list[Row]:
    """What the authors report."""
    note = "on DistilBERT, another machine"
    return [Row("published", name, accuracy, milliseconds=ms, note=note) for name, accuracy, ms in PUBLISHED]
