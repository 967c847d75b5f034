"""What test_parallel.py starts as several processes: ``python trained_together.py FOLDER``, the weights go there."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import coldpress as cp
from coldpress.errors import TaskError
from coldpress.recovery import Epoch, Settings, distil, fit
from coldpress.recovery.parallel import processes

SETTINGS = Settings(epochs=3, lr=0.02, batch_size=16, precision="fp32", device="cpu")


def blobs(count: int, seed: int) -> TensorDataset:
    """Three classes in the plane; no multiple of two, so that shares differ."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = torch.tensor([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]])
    return TensorDataset(centres[labels] + 0.7 * torch.randn(count, 2, generator=generator), labels)


def net(width: int, *more: nn.Module, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, width), *more, nn.ReLU(), nn.Linear(width, 3))


def task_of(model: nn.Module) -> cp.Task:
    return cp.Task(model, torch.zeros(1, 2), train=blobs(89, 0), validation=blobs(60, 1))


def distilled(hints: dict[str, Tensor | None] | None = None, **more: object) -> nn.Module:
    """A student whose width is not its teacher's."""
    teacher, student = net(9), net(5, seed=processes().index)  # the main one's weights hold
    distil(student, teacher, task_of(teacher), SETTINGS, hints=hints, **more)  # type: ignore[arg-type]
    return student


def normalised() -> nn.Module:
    model = net(5, nn.BatchNorm1d(5))
    fit(model, task_of(model), SETTINGS)
    return model


def stopper(epoch: int) -> Callable[[Epoch], None]:
    """Stops a training after an epoch, as Ctrl-C does."""

    def stop(point: Epoch) -> None:
        if point.epoch == epoch:
            raise KeyboardInterrupt

    return stop


def main(folder: Path) -> None:
    together, weights = processes(), {}
    seen: dict[str, list[int]] = {"distilled": [], "stopped": []}
    for name, epochs in seen.items():
        student = distilled(checkpoint_dir=folder / name, on_epoch=lambda point, to=epochs: to.append(point.epoch))
        weights[name] = student.state_dict()
    weights["projected"] = distilled({"2": None}, checkpoint_dir=folder / "projected").state_dict()
    weights["normalised"] = copy.deepcopy(normalised().state_dict())
    refused = ""
    try:
        cp.compress(task_of(net(5)), cp.Budget(macs="50%"))
    except TaskError as error:
        refused = str(error)
    found = {"weights": weights, "epochs": seen, "count": together.count, "refused": refused}
    torch.save(found, folder / f"{together.index}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
