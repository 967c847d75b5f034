"""The original's answers: asked once a sample where that gives the same, and every time where it would not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from coldpress.data import MemoryData, TensorData
from coldpress.recovery import Epoch, Settings, distil
from coldpress.task import Task
from coldpress.tokens import TokenData

THREE = Settings(epochs=3, lr=0.05, batch_size=8, precision="fp32", device="cpu")


class Reader(nn.Module):
    """The mean of its tokens' vectors, those that fill up left out; it counts what it is asked."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.words, self.head = nn.Embedding(20, 6), nn.Linear(6, 2)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        x = self.words(ids) * mask[..., None]
        found: Tensor = self.head(x.sum(1) / mask.sum(1, keepdim=True))
        return found


class Seer(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.head = nn.Linear(27, 2)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.head(x.flatten(1))
        return found


def texts() -> TokenData:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 9, (40,), generator=generator).tolist()
    ids = tuple(torch.randint(1, 20, (length,), generator=generator) for length in lengths)
    return TokenData(ids, torch.arange(40) % 2)


def images(**options: Any) -> TensorData:
    return TensorData(
        torch.randn(40, 3, 3, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2, **options
    )


class Asked:
    """How many samples a network was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kind: type[nn.Module]) -> None:
        self.samples = 0
        forward = kind.forward

        def counted(module: Any, x: Tensor, *others: Tensor) -> Any:
            self.samples += 0 if module.training or torch.is_grad_enabled() else len(x)
            return forward(module, x, *others)

        monkeypatch.setattr(kind, "forward", counted)


def learnt(kind: Any, data: MemoryData, settings: Settings = THREE, **more: Any) -> nn.Module:
    student, teacher = kind(1), kind(0)
    example = tuple(x[:1] for x in next(data.batches(1))[:-1])
    distil(student, teacher, Task(teacher, example, train=data), settings, **more)
    return student


@pytest.mark.parametrize(("kind", "data"), [(Reader, texts()), (Seer, images())])
def test_each_sample_is_asked_once_and_the_student_learns_the_same(
    kind: Any, data: MemoryData, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("coldpress.recovery.answers.LARGEST", 0)
        every_time = Asked(patched, kind)
        expected = learnt(kind, data)
    once = Asked(monkeypatch, kind)
    found = learnt(kind, data)
    assert every_time.samples - once.samples == 2 * 36  # a tenth is held out
    for a, b in zip(found.parameters(), expected.parameters()):
        torch.testing.assert_close(a, b)


def test_images_that_change_with_every_epoch_are_asked_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, Seer)
    for data, settings in ((images(flip=True), THREE), (images(pad=1), THREE), (images(), replace(THREE, mixup=0.5))):
        asked.samples = 0
        learnt(Seer, data, settings)
        assert asked.samples >= 3 * 36


def test_a_resumed_run_has_the_same_answers(tmp_path: Path) -> None:
    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 1:
            raise KeyboardInterrupt

    whole = learnt(Reader, texts())
    with pytest.raises(KeyboardInterrupt):
        learnt(Reader, texts(), checkpoint_dir=tmp_path, on_epoch=stop)
    resumed = learnt(Reader, texts(), checkpoint_dir=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(resumed.parameters(), whole.parameters()))
