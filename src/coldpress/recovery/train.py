"""Training on a one-cycle schedule, checkpointed every epoch, the best epoch chosen on validation data."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from coldpress import splits
from coldpress.data import read_batches
from coldpress.errors import TaskError
from coldpress.network import logits_of
from coldpress.recovery.checkpoints import Checkpoints
from coldpress.recovery.mixup import mixed
from coldpress.recovery.muon import MuonSGD
from coldpress.recovery.parallel import processes
from coldpress.recovery.precision import Context, autocast, choose_device, place, place_model
from coldpress.recovery.settings import Settings, rate
from coldpress.task import Task

logger = logging.getLogger("coldpress.recovery")

Loss = Callable[[Tensor, tuple[Tensor, ...], Tensor], Tensor]
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Epoch:
    """One point of the training curve; epoch 0 is the model before training.

    Attributes:
        epoch: number of passes over the training data so far.
        train_loss: mean loss of the epoch's steps; None for epoch 0.
        validation_score: the task's metric on validation data; None where there is none.
        lr: learning rate of the last step.
    """

    epoch: int
    train_loss: float | None
    validation_score: float | None
    lr: float


@dataclass(frozen=True)
class History:
    """The training curve, and the epoch whose weights the model was left with."""

    epochs: tuple[Epoch, ...]
    best: int


def fit(
    model: nn.Module,
    task: Task,
    settings: Settings | None = None,
    *,
    loss: Loss | None = None,
    loss_key: str = "",
    trained_along: nn.Module | None = None,
    checkpoint_dir: str | Path | None = None,
    progress: Progress | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> History:
    """Train ``model`` in place on the task's train data; it is left in eval mode with the weights of its best epoch.

    The best epoch is the one of highest validation score, the untrained model (epoch 0) included; without validation
    data it is the last. With ``checkpoint_dir`` a stopped run resumes after its last whole epoch, and ends with the
    weights of a run that was never stopped. When stopped, Ctrl-C included, the model holds its best epoch so far.

    Where the script was started by ``accelerate launch`` (or torchrun) as several processes, these train together and
    end with the same weights (see `parallel`): each takes its share of every batch, and the main one alone writes
    checkpoints and calls ``progress`` and ``on_epoch``.

    Args:
        model: takes the task's inputs; may be another one than ``task.model``.
        task: its train data (augmented where the data set does so), validation data, metric and loss.
        settings: how to train.
        loss: from ``(logits (batch, classes), inputs, labels (batch,))`` to a scalar, a mean over samples; by default
            the task's.
        loss_key: names what ``loss`` depends on, so that a run under another loss is not resumed by mistake.
        trained_along: what ``loss`` has parameters in besides the model's; they learn too, and nothing else becomes of
            them.
        checkpoint_dir: keeps the last and the best epoch.
        progress: called after each step with ``(step, steps, mean loss of the epoch)``.
        on_epoch: called after each epoch, epoch 0 included.

    Raises:
        TaskError: there is no train data, no batch of two samples, nothing that can be mixed where the settings ask
            for it, or the loss is not finite.
        CheckpointError: a checkpoint cannot be written.
    """
    settings = settings or Settings()
    if settings.epochs == 0:
        model.eval()
        return History((), 0)
    if settings.mixup and task.loss_name != "cross_entropy":
        raise TaskError(f"mixup mixes labels, which the loss {task.loss_name} cannot take: leave mixup out")
    batches_per_epoch = _count_batches(task.data("train"), settings.batch_size)
    device = choose_device(settings.device)
    together = processes()
    home = next((p.device for p in model.parameters()), torch.device("cpu"))
    run = _Run(task, settings, loss or _task_loss(task, settings), device, batches_per_epoch, progress)
    beside = nn.Module() if trained_along is None else trained_along
    for module in (model, beside):
        place_model(module, device)
    together.equalise(model, beside)
    folder = Path(checkpoint_dir) if checkpoint_dir is not None and together.main else None
    store = Checkpoints(folder, _run_key(settings, model, loss_key))
    optimizer = _optimizer(nn.ModuleList([model, beside]), settings)
    state = together.from_main(store.resume)
    if state is None:
        curve, best = [Epoch(0, None, run.score(model), 0.0)], 0
        store.save(0, 0, model.state_dict(), _state(optimizer, beside, curve))
        if on_epoch is not None and together.main:
            on_epoch(curve[0])
    else:
        curve, best = [Epoch(**point) for point in state["curve"]], int(state["best"])
        store.keep(together.from_main(lambda: {e: store.weights(e) for e in (int(state["epoch"]), best)}))
        model.load_state_dict(store.weights(int(state["epoch"])))
        beside.load_state_dict(state.get("beside", {}))
        optimizer.load_state_dict(state["optimizer"])
        logger.info("training resumes after epoch %d of %d", state["epoch"], settings.epochs)
    try:
        for epoch in range(len(curve), settings.epochs + 1):
            point = run.epoch(model, optimizer, epoch)
            curve.append(point)
            new_best = epoch if _better(point, curve[best]) else best
            store.save(epoch, new_best, model.state_dict(), _state(optimizer, beside, curve))
            best = new_best  # only now can its weights be had again
            logger.info("epoch %d: loss %.4f, validation score %s", epoch, point.train_loss, point.validation_score)
            if on_epoch is not None and together.main:
                on_epoch(point)
    finally:
        model.load_state_dict(store.weights(best))
        model.to(home, memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return History(tuple(curve), best)


@dataclass(frozen=True)
class _Run:
    """What does not change between the epochs of a run."""

    task: Task
    settings: Settings
    loss: Loss
    device: torch.device
    batches_per_epoch: int
    progress: Progress | None

    @property
    def forward(self) -> Context:
        return autocast(self.device, self.settings.precision)

    def epoch(self, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> Epoch:
        """One pass over the training data."""
        together = processes()
        settings, total = self.settings, self.settings.epochs * self.batches_per_epoch
        step, losses, lr = (epoch - 1) * self.batches_per_epoch, 0.0, 0.0
        count = 0
        model.train()
        with _seeded(settings.seed * 10_007 + epoch, self.device) as generator:
            data = self.task.data("train")
            for inputs, labels in read_batches(
                data, settings.batch_size, shuffle=True, generator=generator, augment=True
            ):
                lr = rate(settings, step, total)
                step += 1
                splits.check_labels("train", labels, self.task.num_classes)
                if len(labels) < 2 * together.count:
                    continue  # BatchNorm has no statistics of a single sample
                for group in optimizer.param_groups:
                    group["lr"] = lr
                losses += self._step(model, optimizer, inputs, labels)
                count += 1
                if not math.isfinite(losses):
                    raise TaskError(f"the training loss is not finite in epoch {epoch}; lower lr (it is {settings.lr})")
                if self.progress is not None and together.main:
                    self.progress(step, total, losses / count)
        if count == 0:
            raise TaskError("no batch of train data has two samples; raise its batch size, or give epochs=0")
        together.average_buffers(model)
        return Epoch(epoch, losses / count, self.score(model), lr)

    def score(self, model: nn.Module) -> float | None:
        """The task's metric on validation data, computed at the precision of training, by the main process."""
        model.eval()
        return processes().from_main(lambda: self._score(model))

    def _score(self, model: nn.Module) -> float | None:
        if self.task.validation is None:
            return None

        def predict(inputs: tuple[Tensor, ...]) -> Tensor:
            with torch.inference_mode(), self.forward():
                return logits_of(model(*(place(x, self.device) for x in inputs))).float().cpu()

        return self.task.score(predict)

    def _step(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, inputs: tuple[Tensor, ...], labels: Tensor
    ) -> float:
        together = processes()
        own = together.share(labels)
        placed = tuple(place(together.share(x), self.device) for x in inputs)
        targets = own.reshape(-1).to(self.device)
        if self.settings.mixup:
            placed, targets = mixed(placed, targets, self.task.num_classes, self.settings.mixup)
        with self.forward():
            logits = logits_of(model(*placed))
        # Shares may differ by a sample: the mean over processes is that over samples only if they are weighted.
        weight = together.count * len(own) / len(labels)
        value = weight * self.loss(logits.float(), placed, targets)
        optimizer.zero_grad(set_to_none=True)
        value.backward()  # type: ignore[no-untyped-call]
        trained = (parameter for group in optimizer.param_groups for parameter in group["params"])
        mean = together.average_gradients(trained, value.item())
        optimizer.step()
        return mean


def _task_loss(task: Task, settings: Settings) -> Loss:
    if task.loss_name == "cross_entropy" and settings.label_smoothing:
        smooth = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
        return lambda logits, inputs, labels: smooth(logits, labels)
    return lambda logits, inputs, labels: task.loss(logits, labels)


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "muon":
        return MuonSGD(model, settings.lr)
    if settings.optimizer == "adamw":
        # one pass over the memory: of a small encoder with its table of words AdamW is a fifth of a step otherwise
        fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in trained)
        return torch.optim.AdamW(groups, lr=settings.lr, fused=fused)
    if settings.optimizer == "adam":
        return torch.optim.Adam(groups, lr=settings.lr)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=0.9, nesterov=True)


def _count_batches(data: Any, batch_size: int) -> int:
    if isinstance(data, Dataset):
        return math.ceil(len(data) / batch_size)  # type: ignore[arg-type]
    return len(data) if hasattr(data, "__len__") else sum(1 for _ in data)


def _run_key(settings: Settings, model: nn.Module, loss_key: str) -> str:
    digest = hashlib.sha256(f"{replace(settings, device='auto')}{loss_key}".encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _state(optimizer: torch.optim.Optimizer, beside: nn.Module, curve: list[Epoch]) -> dict[str, Any]:
    learned = dict(beside.state_dict())
    return {"optimizer": optimizer.state_dict(), "beside": learned, "curve": [asdict(point) for point in curve]}


def _better(point: Epoch, best: Epoch) -> bool:
    if point.validation_score is None or best.validation_score is None:
        return True
    return point.validation_score > best.validation_score


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """A generator for the data; the global one, which dropout uses, is seeded too and put back afterwards."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)
