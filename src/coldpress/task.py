"""Task: a model, example inputs, disjoint train / validation / test data, and a metric."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from coldpress import splits
from coldpress.data import Batch, MemoryData, example_of, read_batches
from coldpress.errors import TaskError
from coldpress.evaluate import LOSSES, METRICS, Criterion, Evaluation, Metric, Predict, evaluate, predictor
from coldpress.logits import FirstOutput, checked_model
from coldpress.names import meant

__all__ = ["FirstOutput", "Task"]

logger = logging.getLogger("coldpress.task")

Split = Literal["train", "validation", "test"]
ONE_CLASS = 64  # so many labels that are all the same are no accident
EVALUATION_BATCH = 64  # activations stay in the cache: 1.7 times faster than 256 on a CPU (ResNet-20)
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Task:
    """What is to be compressed, and the data that says how well it works.

    Everything is checked here, so that later steps need not. A model that returns a tuple, or an object with
    logits as those of transformers do, is wrapped in `FirstOutput` (its modules are then named ``model.*``); the user's
    own module is never changed.

    Args:
        model: a trained classifier on the CPU that returns logits ``(batch, classes)``, or a decoder that returns
            ``(batch, tokens, classes)``, or a tuple that starts with them, or an object that has them as ``logits``;
            it is set to eval mode.
        example_inputs: a tensor, or a tuple of tensors for a model with several inputs, each with a batch dimension;
            None takes one sample of the data.
        train: training data: a torch Dataset, a DataLoader, or a list of batches. Calibration is drawn from it. None
            means no fine-tuning; calibration then takes samples off the validation data, which keeps the others.
        validation: decides between candidates. None: a tenth of ``train`` (at most 5,000 samples) is split off, seeded.
        hold_out: False leaves ``train`` whole where no validation data is given: training then keeps its last epoch.
        test: only ever reported on. None: nothing is reported as test.
        metric: "accuracy", "top5_accuracy" or a callable ``(logits (N, classes), labels (N,)) -> float``, higher is
            better.
        loss: "cross_entropy" or a callable ``(logits, labels) -> scalar tensor``.
        calibration_size: samples drawn when no number is asked for.
        ignored_layers: names of modules that are left as they are.
        seed: of the splits and of the calibration draw.
        name: for reports; the model's class name by default.
        tokenizer: a Hugging Face tokenizer that belongs to the model; it goes into the artifact, and its special tokens
            keep their rows where a table of embeddings loses some.

    Attributes:
        num_classes: number of logits.
        per_token: whether there are logits for every token, as a decoder gives them.
        classes: class names by label, ``()`` where the data has none.

    Raises:
        TaskError: the model or the data cannot be used; the message says what to do.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Tensor | Sequence[Tensor] | None = None,
        *,
        train: Any = None,
        validation: Any = None,
        test: Any = None,
        hold_out: bool = True,
        metric: str | Metric = "accuracy",
        loss: str | Criterion = "cross_entropy",
        calibration_size: int = 512,
        ignored_layers: Sequence[str] = (),
        seed: int = 0,
        name: str | None = None,
        tokenizer: Any = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TaskError(f"model is a {type(model).__name__}; it must be a torch.nn.Module")
        if calibration_size < 1:
            raise TaskError(f"calibration_size is {calibration_size}; it must be 1 or more")
        self.seed = seed
        self.calibration_size = calibration_size
        self.name = name or type(model).__name__
        self.tokenizer = tokenizer
        self.metric_name, self.metric = _named("metric", metric, METRICS)
        self.loss_name, self.loss = _named("loss", loss, LOSSES)
        given = {"train": train, "validation": validation, "test": test}
        given = {split: data for split, data in given.items() if data is not None}
        for split, data in given.items():
            splits.check_readable(split, data)
        splits.check_disjoint(given)
        calibration = given.get("train")
        if hold_out and "train" in given and "validation" not in given:
            given["train"], given["validation"] = splits.split(train, seed)
            calibration = given["train"]
            logger.info("no validation data: a part of train was split off for it")
        elif "train" not in given and "validation" in given:
            given["validation"], calibration = splits.split(validation, seed, wanted=calibration_size)
            logger.warning("no train data: calibration takes samples off validation, and there can be no fine-tuning")
        self.train, self.validation, self.test = (given.get(split) for split in SPLITS)
        self._calibration_data = calibration
        self._drawn: dict[int, Batch] = {}
        self.example_inputs = self._examples(example_inputs)
        self.model = checked_model(model, self.example_inputs)
        with torch.no_grad():
            outputs = self.model(*self.example_inputs)
        self.num_classes, self.per_token = int(outputs.shape[-1]), outputs.dim() == 3
        self.ignored_layers = _known_layers(self.model, model, ignored_layers)
        self.classes: tuple[str, ...] = next((c for d in given.values() if (c := splits.class_names(d))), ())
        for split in given:
            self._check_split(split)

    @property
    def report_split(self) -> Split:
        """Where results are reported: "test" if there is test data, else "validation"."""
        return "test" if self.test is not None else "validation"

    def data(self, split: Split) -> Any:
        """The data of a split. Raises TaskError when the task has none."""
        if split not in SPLITS:
            raise TaskError(f"no split is called {split!r}; choose train, validation or test")
        data = getattr(self, split)
        if data is None:
            raise TaskError(f"this task has no {split} data; give Task(..., {split}=...) a data set or a DataLoader")
        return data

    def batches(self, split: Split, batch_size: int = EVALUATION_BATCH) -> Iterator[Batch]:
        """Yield ``(inputs, labels)`` of a split in order, un-augmented, labels checked."""
        return self._checked(split, self.data(split), batch_size)

    def _checked(self, split: Split, data: Any, batch_size: int) -> Iterator[Batch]:
        for inputs, labels in read_batches(data, batch_size):
            splits.check_labels(split, labels, self.num_classes)
            yield inputs, labels

    def calibration(self, n: int | None = None) -> Batch:
        """``n`` samples of train, drawn by the task's seed and never augmented by us.

        Args:
            n: number of samples, ``calibration_size`` by default; fewer are returned where there are not so many.

        Returns:
            inputs: tuple of tensors ``(n, ...)``.
            labels: ``(n,)``, or ``(n, tokens)`` for a decoder.
        """
        count = self.calibration_size if n is None else n
        if self._calibration_data is None:
            raise TaskError("calibration needs train data (or validation data); give Task(..., train=...)")
        if count not in self._drawn:
            inputs, labels = splits.draw(self._calibration_data, count, self.seed)
            splits.check_labels("train", labels, self.num_classes)
            if count >= ONE_CLASS and _all_same(labels):
                raise TaskError(f"all {len(labels)} labels drawn for calibration are {_one(labels)}; two are needed")
            self._drawn = {count: (inputs, labels)}
        return self._drawn[count]

    def evaluate(
        self, model: nn.Module | Predict, split: Split | None = None, batch_size: int = EVALUATION_BATCH
    ) -> Evaluation:
        """Evaluate a PyTorch model, or any ``predict(inputs) -> logits``, on a split (`report_split` by default).

        Texts run with others of their length, and stand in the data's order again in what comes of it.
        """
        predict = predictor(model) if isinstance(model, nn.Module) else model
        split = split or self.report_split
        data = self.data(split)
        order = data.alike() if isinstance(data, MemoryData) else None
        together = data if order is None else data.subset(order)
        found = evaluate(predict, self._checked(split, together, batch_size), self.loss)
        return found if order is None else found.reordered(order.argsort())

    def score(self, model: nn.Module | Predict, split: Split = "validation") -> float:
        """The task's metric on a split, higher is better."""
        return self.evaluate(model, split).score(self.metric)

    def _examples(self, example_inputs: Tensor | Sequence[Tensor] | None) -> tuple[Tensor, ...]:
        if example_inputs is None:
            data = next((d for d in (self.train, self.validation, self.test) if d is not None), None)
            if data is None:
                raise TaskError("example_inputs is None and there is no data to take a sample from; give one of them")
            return example_of(data)
        inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs)
        if not inputs or not all(isinstance(x, Tensor) and x.dim() >= 2 and len(x) for x in inputs):
            raise TaskError(
                "example_inputs must be a tensor with a batch dimension, (1, 3, 32, 32) say, or a tuple of them"
            )
        return inputs

    def _check_split(self, split: str) -> None:
        inputs, labels = next(read_batches(getattr(self, split), 2))
        expected = [tuple(x.shape[1:]) for x in self.example_inputs]
        found = [tuple(x.shape[1:]) for x in inputs]
        if getattr(getattr(self, split), "ragged", False):
            expected, found = [shape[1:] for shape in expected], [shape[1:] for shape in found]
        if expected != found:
            raise TaskError(f"{split} samples have shapes {found}, example_inputs {expected}; they must be the same")
        if (labels.dim() == 2) != self.per_token:
            wanted = "(batch, tokens), the next token of each" if self.per_token else "(batch,)"
            raise TaskError(f"{split} labels are of shape {tuple(labels.shape)}; for this model they must be {wanted}")
        known = splits.known_labels(getattr(self, split))
        splits.check_labels(split, labels if known is None else known, self.num_classes)
        if known is not None and len(known) > 1 and split != "test" and _all_same(known):
            raise TaskError(f"all {len(known)} labels of {split} are {_one(known)}; two classes or more are needed")


def _one(labels: Tensor) -> int:
    return int(labels.reshape(-1)[0])


def _all_same(labels: Tensor) -> bool:
    return bool((labels == _one(labels)).all())


def _known_layers(model: nn.Module, inner: nn.Module, names: Sequence[str]) -> tuple[str, ...]:
    known = {name for name, _ in model.named_modules()}
    prefix = "" if model is inner else "model."
    found = []
    for name in names:
        full = name if name in known else prefix + name
        if full not in known:
            raise TaskError(f"ignored layer {name!r} is not in the model{meant(name, known, 3)}")
        found.append(full)
    return tuple(found)


def _named(what: str, given: Any, known: dict[str, Any]) -> tuple[str, Any]:
    if callable(given):
        return getattr(given, "__name__", what), given
    if given not in known:
        raise TaskError(f"{what} {given!r} is unknown; choose {', '.join(known)}, or give a callable")
    return given, known[given]
