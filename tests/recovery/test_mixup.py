"""Images mixed in pairs: labels are mixed alike, and the original is asked about the very same images."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import coldpress as cp
from coldpress.errors import TaskError
from coldpress.recovery import Settings, distil, fit
from coldpress.recovery.mixup import mixed


def task_of(loss: str = "cross_entropy") -> cp.Task:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(64, 1, 4, 4, generator=generator)
    data = TensorDataset(images, (images.mean((1, 2, 3)) > 0).long())
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))
    own = {} if loss == "cross_entropy" else {"loss": nn.functional.multi_margin_loss}
    return cp.Task(model, images[:1], train=data, hold_out=False, **own)


def test_images_and_labels_are_mixed_by_one_share() -> None:
    torch.manual_seed(1)
    images = torch.arange(3.0).view(3, 1, 1, 1)
    (found,), targets = mixed((images,), torch.tensor([0, 1, 2]), 3, 1.0)
    share = float(targets[0, 0])
    assert 0 < share < 1
    torch.testing.assert_close(targets.sum(1), torch.ones(3))
    torch.testing.assert_close(found.flatten(), share * images.flatten() + (1 - share) * images.flatten().flip(0))


def test_the_original_answers_the_mixed_images() -> None:
    task = task_of()
    seen: list[Tensor] = []

    class Teacher(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.clone())
            return self.inner(x)

    student = copy.deepcopy(task.model)
    asked: list[Tensor] = []
    student[0].register_forward_pre_hook(lambda module, given: asked.append(given[0].clone()))
    settings = Settings(epochs=1, batch_size=16, lr=0.01, mixup=1.0, precision="fp32")
    distil(student, Teacher(task.model), task, settings)
    assert len(seen) == len(asked) == 4
    assert all(torch.equal(a, b) for a, b in zip(seen, asked))
    whole = task.data("train").tensors[0]
    assert not any(bool((whole == row).flatten(1).all(1).any()) for row in seen[0])


def test_the_same_seed_mixes_alike() -> None:
    weights = []
    for _ in range(2):
        task = task_of()
        fit(task.model, task, Settings(epochs=2, batch_size=16, lr=0.1, mixup=0.5, precision="fp32"))
        weights.append(copy.deepcopy(task.model.state_dict()))
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_what_cannot_be_mixed_is_refused() -> None:
    with pytest.raises(TaskError, match="mixup mixes images"):
        mixed((torch.zeros(2, 3, dtype=torch.long),), torch.tensor([0, 1]), 2, 1.0)
    with pytest.raises(TaskError, match="mixup mixes labels"):
        fit(task_of("other").model, task_of("other"), Settings(epochs=1, mixup=1.0))
    with pytest.raises(TaskError, match="mixup is -1"):
        Settings(mixup=-1)
