"""How to train: the settings of a run, and its learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from coldpress.errors import TaskError

Optimizer = Literal["sgd", "adamw", "adam", "muon"]
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        epochs: passes over the training data; 0 trains nothing.
        optimizer: "sgd" (Nesterov momentum 0.9), "adamw", "adam" (whose decay is part of the gradient), or "muon" (see
            `MuonSGD`; no weight decay).
        lr: the highest learning rate.
        schedule: "one_cycle" (see `one_cycle`) or "constant".
        warmup: of one cycle, the fraction of the steps in which the learning rate rises to ``lr``.
        batch_size: samples a step, for data sets that are not DataLoaders.
        weight_decay: of weights with two or more dimensions; biases and norms have none.
        label_smoothing: of the cross-entropy, in [0, 1).
        mixup: images and labels are mixed in pairs by shares from Beta(mixup, mixup); 0 mixes nothing.
        seed: order, augmentation, mixing and dropout.
        device: "auto" (a GPU where there is one) or a torch device.
        precision: "auto", "fp32" or "bf16"; auto is bf16 where the device computes it natively.

    Raises:
        TaskError: a value is out of its range.
    """

    epochs: int = 5
    optimizer: Optimizer = "sgd"
    lr: float = 0.05
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    warmup: float = 0.2
    batch_size: int = 128
    weight_decay: float = 5e-4
    label_smoothing: float = 0.0
    mixup: float = 0.0
    seed: int = 0
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        allowed = {
            "epochs": (self.epochs >= 0, "0 (no training) or more"),
            "optimizer": (self.optimizer in OPTIMIZERS, ", ".join(OPTIMIZERS)),
            "schedule": (self.schedule in ("one_cycle", "constant"), "one_cycle or constant"),
            "lr": (0 < self.lr < math.inf, "above 0"),
            "warmup": (0 <= self.warmup < 1, "in [0, 1)"),
            "batch_size": (self.batch_size >= 2, "2 or more, since BatchNorm has no statistics of one sample"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "0 or more"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "in [0, 1)"),
            "mixup": (0 <= self.mixup < math.inf, "0 (mix nothing) or more"),
            "precision": (self.precision in ("auto", "fp32", "bf16"), "auto, fp32 or bf16"),
        }
        for name, (fits, what) in allowed.items():
            if not fits:
                raise TaskError(f"{name} is {getattr(self, name)!r}; it must be {what}")


def rate(settings: Settings, step: int, steps: int) -> float:
    """The learning rate at ``step`` of ``steps``."""
    return settings.lr * (1.0 if settings.schedule == "constant" else one_cycle(step, steps, settings.warmup))


def one_cycle(step: int, steps: int, warmup: float = 0.2) -> float:
    """Fraction of the highest learning rate at ``step`` of ``steps``: a linear rise, then half a cosine to zero.

    >>> one_cycle(20, 100, warmup=0.2)
    1.0
    """
    rise = warmup * steps
    if step < rise:
        return 0.04 + 0.96 * step / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))
