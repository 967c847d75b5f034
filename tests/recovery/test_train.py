"""Training: what it learns, what it keeps, and how it resumes."""

import copy
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from coldpress.errors import CheckpointError, TaskError
from coldpress.recovery import Epoch, Settings, distil, fit, one_cycle
from coldpress.task import Task

QUICK = Settings(epochs=3, lr=0.1, batch_size=16, precision="fp32", device="cpu")


def blobs(count: int, seed: int) -> TensorDataset:
    """Three separable classes in the plane."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    centres = torch.tensor([[2.0, 0.0], [-1.0, 2.0], [-1.0, -2.0]])
    return TensorDataset(centres[labels] + 0.5 * torch.randn(count, 2, generator=generator), labels)


def net(width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, 3))


def task(model: nn.Module, **keywords: object) -> Task:
    data = {"train": blobs(90, 0), "validation": blobs(60, 1), **keywords}
    return Task(model, torch.zeros(1, 2), **data)  # type: ignore[arg-type]


def weights(model: nn.Module) -> list[Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second)))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "adam"])
def test_training_learns(optimizer: str) -> None:
    model = net()
    history = fit(model, task(model), Settings(epochs=8, optimizer=optimizer, lr=0.05, batch_size=16))  # type: ignore[arg-type]
    assert task(model).score(model) > 0.9
    assert [point.epoch for point in history.epochs] == list(range(9))
    assert not model.training


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_state() -> None:
    first, second, third = net(), net(), net()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    fit(first, task(first), QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    fit(second, task(second), QUICK)
    fit(third, task(third), Settings(**{**vars(QUICK), "seed": 1}))
    assert same(first, second)
    assert not same(first, third)


def test_the_best_epoch_is_chosen_on_validation_and_epoch_0_counts() -> None:
    model = net()
    fit(model, task(model), Settings(**{**vars(QUICK), "epochs": 8}))
    before = copy.deepcopy(model)
    # Wrong labels in train can only harm a good model.
    wrong = TensorDataset(blobs(90, 2).tensors[0], (blobs(90, 2).tensors[1] + 1) % 3)
    history = fit(model, task(model, train=wrong), QUICK)
    assert history.best == 0
    assert same(model, before)
    scores = [point.validation_score for point in history.epochs]
    assert scores[0] == max(scores)  # type: ignore[type-var]


def test_the_test_data_plays_no_part() -> None:
    first, second = net(), net()
    fit(first, task(first, test=blobs(30, 3)), QUICK)
    fit(second, task(second), QUICK)
    assert same(first, second)


class StopError(Exception):
    pass


@pytest.mark.parametrize("stop_at", [1, 2])
def test_a_stopped_run_resumes_to_the_same_weights(tmp_path: Path, stop_at: int) -> None:
    whole, parts = net(), net()
    fit(whole, task(whole), QUICK)

    def stop(point: Epoch) -> None:
        if point.epoch == stop_at:
            raise StopError

    with pytest.raises(StopError):
        fit(parts, task(parts), QUICK, checkpoint_dir=tmp_path, on_epoch=stop)
    resumed, seen = net(), []
    history = fit(
        resumed, task(resumed), QUICK, checkpoint_dir=tmp_path, on_epoch=lambda point: seen.append(point.epoch)
    )
    assert seen == list(range(stop_at + 1, 4))
    assert len(history.epochs) == 4
    assert same(resumed, whole)
    again, seen = net(), []
    fit(again, task(again), QUICK, checkpoint_dir=tmp_path, on_epoch=lambda point: seen.append(point.epoch))
    assert seen == []
    assert same(again, whole)


def test_a_stop_within_an_epoch_leaves_the_best_so_far(tmp_path: Path) -> None:
    def stop(step: int, steps: int, loss: float) -> None:
        if step == 8:
            raise KeyboardInterrupt

    model, reference = net(), net()
    with pytest.raises(KeyboardInterrupt):
        fit(model, task(model), QUICK, checkpoint_dir=tmp_path, progress=stop)
    fit(reference, task(reference), QUICK)
    resumed = net()
    fit(resumed, task(resumed), QUICK, checkpoint_dir=tmp_path)
    assert same(resumed, reference)
    assert not model.training


@pytest.mark.parametrize("damage", ["other settings", "state", "weights"])
def test_what_cannot_be_resumed_starts_anew(tmp_path: Path, damage: str) -> None:
    first, second = net(), net()
    fit(first, task(first), QUICK, checkpoint_dir=tmp_path)
    settings = QUICK
    if damage == "other settings":
        settings = Settings(**{**vars(QUICK), "lr": 0.2})
    elif damage == "state":
        path = tmp_path / "state.pt"
        path.write_bytes(path.read_bytes()[:100])
    else:
        for path in tmp_path.glob("*.safetensors"):
            path.write_bytes(path.read_bytes()[:50])
    seen: list[int] = []
    fit(second, task(second), settings, checkpoint_dir=tmp_path, on_epoch=lambda point: seen.append(point.epoch))
    assert seen == [0, 1, 2, 3]


def test_only_the_last_and_the_best_weights_are_kept(tmp_path: Path) -> None:
    model = net()
    history = fit(model, task(model), QUICK, checkpoint_dir=tmp_path)
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept == {"state.pt", f"epoch-{history.best:03d}.safetensors", "epoch-003.safetensors"}


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    model = net()
    with pytest.raises(CheckpointError, match="cannot be used"):
        fit(model, task(model), QUICK, checkpoint_dir=tmp_path / "file")

    def vanish(step: int, steps: int, loss: float) -> None:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        (tmp_path / "run").write_text("in the way")

    with pytest.raises(CheckpointError, match="cannot be written"):
        fit(model, task(model), QUICK, checkpoint_dir=tmp_path / "run", progress=vanish)


def test_no_epochs_change_nothing() -> None:
    model = net()
    before = copy.deepcopy(model)
    assert fit(model, task(model), Settings(epochs=0)).epochs == ()
    assert same(model, before)


def test_a_last_batch_of_one_is_left_out() -> None:
    model = net()
    train = list(DataLoader(blobs(17, 0), batch_size=16))
    history = fit(model, task(model, train=train), QUICK)
    assert len(history.epochs) == 4
    with pytest.raises(TaskError, match="no batch of train data has two samples"):
        fit(model, task(model, train=list(DataLoader(blobs(5, 0), batch_size=1))), QUICK)


def test_training_needs_train_data() -> None:
    model = net()
    with pytest.raises(TaskError, match="no train data"):
        fit(model, task(model, train=None), QUICK)


def test_a_label_out_of_range_is_named() -> None:
    class Blobs(torch.utils.data.Dataset):  # type: ignore[type-arg]
        """Labels that are only known when they are read."""

        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return torch.full((2,), float(index)), 7 if index == 50 else index % 3

    model = net()
    with pytest.raises(TaskError, match="7"):
        fit(model, task(model, train=Blobs()), QUICK)


def test_a_loss_that_is_not_finite_stops() -> None:
    model = net()
    with pytest.raises(TaskError, match="not finite"):
        fit(model, task(model), QUICK, loss=lambda logits, inputs, labels: logits.sum() * float("nan"))
    assert all(torch.isfinite(tensor).all() for tensor in weights(model))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": -1},
        {"lr": 0.0},
        {"optimizer": "lbfgs"},
        {"schedule": "none"},
        {"batch_size": 1},
        {"warmup": 1.0},
        {"precision": "int8"},
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(TaskError, match=next(iter(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]


def test_the_cycle_rises_to_one_and_falls_to_zero() -> None:
    rates = [one_cycle(step, 100, 0.25) for step in range(101)]
    assert rates[25] == max(rates) == 1
    assert rates[100] == pytest.approx(0, abs=1e-9)
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert one_cycle(0, 1, 0.0) == 1


def test_distillation_follows_the_teacher_and_leaves_it() -> None:
    teacher = net(32)
    fit(teacher, task(teacher), Settings(**{**vars(QUICK), "epochs": 6}))
    before = copy.deepcopy(teacher)
    inputs = blobs(60, 4).tensors[0]

    def distance(student: nn.Module) -> float:
        with torch.no_grad():
            p, q = (model.eval()(inputs).log_softmax(1) for model in (teacher, student))
        return float(nn.functional.kl_div(q, p, reduction="batchmean", log_target=True))

    student = net()
    start = distance(student)
    distil(student, teacher, task(student), Settings(epochs=8, lr=0.05, batch_size=16), weight=1.0, temperature=1.0)
    assert distance(student) < 0.2 * start
    assert same(teacher, before)
    assert all(p.requires_grad for p in teacher.parameters())


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"weight": 1.5}])
def test_distillation_parameters_are_checked(wrong: dict[str, float]) -> None:
    model = net()
    with pytest.raises(TaskError, match=next(iter(wrong))):
        distil(model, model, task(model), QUICK, **wrong)  # type: ignore[arg-type]


def test_labels_alone_are_plain_training() -> None:
    first, second = net(), net()
    distil(first, net(16), task(first), QUICK, weight=0.0)
    fit(second, task(second), QUICK)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(weights(first), weights(second)))
