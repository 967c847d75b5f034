"""What the experiment on QIANets is made of: its methods, the published figures, how much is done, and a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from coldpress.errors import TaskError
from coldpress.recovery.settings import Optimizer

KERNELS = (3, 5, 7, 9)
BASELINE, CONTROL = "baseline", "control: trained on"
LEGACY, OTHER_READING = "as published", "as published, sparsity read as the share kept"
SEARCHED, AT_RATIO = "corrected, searched", "corrected, channels alone, at the published ratio"
CONTROL_SEARCHED = "control: trained on by the search's rate and batch"
CONTROL_DISTILLED = "control: distilled on from the baseline"
PLAIN, MAGNITUDE, BY_ATTENTION, BY_FISHER = (
    "the same channels, no attention",
    "as many channels, by magnitude, no attention",
    "as many channels, by attention's scores",
    "as many channels, by Fisher scores",
)
WEIGHTS, WEIGHTS_MAGNITUDE = "as many single weights, masked", "as many single weights, by magnitude"
OURS, STRUCTURE, FURTHER = (
    "coldpress, at the published ratios",
    "coldpress, further, in fp32",
    "coldpress, as far as int8 goes",
)
METHODS = (
    *(BASELINE, CONTROL, CONTROL_SEARCHED, CONTROL_DISTILLED, LEGACY, OTHER_READING, SEARCHED, AT_RATIO),
    *(PLAIN, MAGNITUDE, BY_ATTENTION, BY_FISHER, WEIGHTS, WEIGHTS_MAGNITUDE, OURS, STRUCTURE, FURTHER),
)
CONTROLS = {
    SEARCHED: CONTROL_SEARCHED,
    **dict.fromkeys((OURS, STRUCTURE, FURTHER), CONTROL_DISTILLED),  # which learn from the baseline's answers
}
"""What a row is held against that was not trained by the common recipe, which `CONTROL` is of."""
ENTANGLEMENT = 0.1
HELD_OUT = 0.2
"""The share of the training images that validation takes."""


@dataclass(frozen=True)
class Published:
    """What the authors report of a network: accuracies, how many times faster and smaller, and what was searched."""

    before: float
    after: float
    faster: float
    smaller: float
    sparsity: float | None = None
    rank: int | None = None


PUBLISHED = {
    "resnet18": Published(0.9311, 0.8711, 1.57, 1.6, sparsity=0.3779),
    "googlenet": Published(0.9429, 0.8665, 1.16, 1.9, sparsity=0.1417, rank=41),
    "densenet121": Published(0.9405, 0.8852, 1.18, 1.8),
}


@dataclass(frozen=True)
class Ratios:
    """How many times faster and smaller than the original a network is to be, and by which kinds of unit."""

    faster: float
    smaller: float
    units: tuple[str, ...]


IN_FP32 = ("width", "rank", "depth")
ALL = (*IN_FP32, "bits")
ASKED: Mapping[str, Mapping[str, Ratios]] = {
    "resnet18": {STRUCTURE: Ratios(3, 3, IN_FP32), FURTHER: Ratios(8, 12, ALL)},
    "googlenet": {STRUCTURE: Ratios(2, 2.5, IN_FP32), FURTHER: Ratios(6, 8, ALL)},
    "densenet121": {STRUCTURE: Ratios(1.4, 2.5, IN_FP32), FURTHER: Ratios(2.5, 8, ALL)},
}
"""What is asked of our own plans beyond the published ratios."""


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        pixels: side of the images.
        images: of train and validation together; None takes all.
        epochs: of the baseline.
        trials, trial_epochs: of the search.
        final_epochs: of every row, the controls too.
        batch_size: samples a step, where the search does not say.
        seeds: each trains a baseline of its own.
        calibration: images for factors, BatchNorms and our energy.
        optimizer, schedule: of every training; the authors' are "adam" and, as far as they say, "constant".
        measure_seconds: how long layers may be measured for our plans.
    """

    pixels: int
    images: int | None
    epochs: int
    trials: int
    trial_epochs: int
    final_epochs: int
    batch_size: int
    seeds: tuple[int, ...]
    calibration: int
    optimizer: Optimizer = "adamw"
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    measure_seconds: float = 120.0

    def __post_init__(self) -> None:
        if self.images is not None and self.images < LEAST:
            raise TaskError(f"{self.images} images are too few to train, validate and calibrate with: give {LEAST}")


LEAST = 64
SCALES = {
    "tiny": Scale(32, 160, 1, 2, 1, 1, 32, (0,), 32, measure_seconds=10.0),
    "short": Scale(32, 4_000, 10, 3, 1, 2, 64, (0, 1, 2), 128),
    "paper": Scale(224, None, 50, 10, 10, 50, 128, (0,), 512, "adam", "constant"),
}


@dataclass(frozen=True)
class Row:
    """One network by one method and seed.

    Attributes:
        network, method, seed: which.
        metrics: entries of metrics.json, ``original`` the baseline and ``compressed`` the row's network; see also
            `coldpress.papers.qianets_measured`.
        settings: sparsity, rank and so on.
        curve: validation score by epoch of its training.
        note: why it was skipped, or what is to be known of it.
        seconds: that it took, its training and its measuring.
    """

    network: str
    method: str
    seed: int
    metrics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    curve: tuple[float | None, ...] = ()
    note: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> tuple[str, str, int]:
        """What tells rows apart."""
        return self.network, self.method, self.seed
