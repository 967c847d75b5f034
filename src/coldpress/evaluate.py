"""Evaluation: what a model predicts on a data set, how sure that is, and whether two models differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.data import Batch
from coldpress.errors import TaskError
from coldpress.network import logits_of

Predict = Callable[[tuple[Tensor, ...]], Tensor]
Metric = Callable[[Tensor, Tensor], float]
Criterion = Callable[[Tensor, Tensor], Tensor]


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).double().mean())


def _top5_accuracy(logits: Tensor, labels: Tensor) -> float:
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return float((best == labels[:, None]).any(1).double().mean())


def _log_likelihood(logits: Tensor, labels: Tensor) -> float:
    return -float(F.cross_entropy(logits, labels))


METRICS: dict[str, Metric] = {
    "accuracy": _accuracy,
    "top5_accuracy": _top5_accuracy,
    "log_likelihood": _log_likelihood,
}
LOSSES: dict[str, Criterion] = {"cross_entropy": F.cross_entropy}
RESAMPLES = 9999
MOST_LOGITS = 250_000_000
"""Numbers kept of a model's outputs; where there are more, as of decoders, only the predictions are."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A model's outputs on a data set; for a decoder, every token is a sample.

    Attributes:
        logits: ``(N, classes)`` float32; None where there are too many to keep.
        labels: ``(N,)`` int64.
        loss: mean loss a sample.
        predictions: the class of the largest logit, ``(N,)``; by default from the logits.
    """

    logits: Tensor | None
    labels: npt.NDArray[np.int64]
    loss: float
    predictions: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def __post_init__(self) -> None:
        if self.logits is not None and not len(self.predictions):
            object.__setattr__(self, "predictions", self.logits.argmax(1).numpy())

    @cached_property
    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether each prediction is right, ``(N,)``."""
        return np.asarray(self.predictions == self.labels, dtype=np.bool_)

    @property
    def samples(self) -> int:
        """How many samples were judged."""
        return len(self.labels)

    @property
    def accuracy(self) -> float:
        """Fraction of right predictions."""
        return float(self.correct.mean())

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the accuracy."""
        return wilson_interval(int(self.correct.sum()), self.samples)

    @property
    def perplexity(self) -> float:
        """The exponential of the loss, where that is the cross-entropy (nats)."""
        return math.exp(min(self.loss, 700.0))

    def score(self, metric: Metric) -> float:
        """``metric(logits, labels)``, higher is better.

        Raises:
            TaskError: the metric needs logits that were not kept.
        """
        if self.logits is not None:
            return float(metric(self.logits, torch.from_numpy(self.labels)))
        if metric is _accuracy:
            return self.accuracy
        if metric is _log_likelihood:
            return -self.loss
        raise TaskError("the outputs are too many to keep for this metric; take accuracy or log_likelihood")

    def reordered(self, order: Tensor) -> Evaluation:
        """The same with row ``order[i]`` of this one in row i."""
        logits, rows = self.logits, order.numpy()
        moved = None if logits is None else logits[order]
        return replace(self, logits=moved, labels=self.labels[rows], predictions=self.predictions[rows])

    def confusion(self, classes: int | None = None) -> npt.NDArray[np.int64]:
        """``(classes, classes)`` counts: row = label, column = prediction."""
        size = classes or int(max(self.labels.max(), self.predictions.max())) + 1
        counts = np.bincount(self.labels * size + self.predictions, minlength=size * size)
        return counts.reshape(size, size).astype(np.int64)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same samples.

    Attributes:
        difference: accuracy of the second less that of the first.
        difference_interval: its 95 % interval for paired samples, by Agresti and Min.
        bootstrap_interval: the same by the bootstrap.
        p_value: exact McNemar test of "both are as often right", two-sided.
        discordant: samples that only the first got right, and that only the second got right.
        samples: how many samples both judged.
    """

    difference: float
    difference_interval: tuple[float, float]
    bootstrap_interval: tuple[float, float]
    p_value: float
    discordant: tuple[int, int]
    samples: int


def predictor(model: nn.Module, device: torch.device | str = "cpu") -> Predict:
    """``predict(inputs)`` for a PyTorch model: eval mode, no gradients, logits on the CPU in float32."""
    model.eval().to(device)

    def predict(inputs: tuple[Tensor, ...]) -> Tensor:
        with torch.inference_mode():
            return logits_of(model(*(x.to(device) for x in inputs))).float().cpu()

    return predict


def evaluate(predict: Predict, batches: Iterable[Batch], loss: Criterion = F.cross_entropy) -> Evaluation:
    """Run ``predict`` over batches of ``(inputs, labels)``.

    Args:
        predict: from a tuple of input tensors to logits ``(batch, classes)``, or of every token; see `predictor`.
        batches: as `coldpress.data.read_batches` gives them.
        loss: mean loss of logits ``(batch, classes)`` and labels ``(batch,)``.

    Raises:
        TaskError: there is no sample, the logits are not ``(batch, classes)``, or they hold NaN or Inf.
    """
    all_logits: list[Tensor] = []
    all_labels: list[Tensor] = []
    predictions: list[Tensor] = []
    total, kept = 0.0, 0
    for inputs, labels in batches:
        logits, labels = predict(inputs), labels.reshape(-1)
        if logits.dim() != 2 or len(logits) != len(labels):
            raise TaskError(
                f"the model gives outputs {tuple(logits.shape)} for {len(labels)} labels; need (batch, classes)"
            )
        if not torch.isfinite(logits).all():
            raise TaskError("the model's outputs hold NaN or Inf; check its weights, and that inputs are normalised")
        total += float(loss(logits, labels)) * len(labels)
        kept += logits.numel()
        if kept <= MOST_LOGITS:
            all_logits.append(logits)
        else:
            all_logits.clear()
        predictions.append(logits.argmax(1))
        all_labels.append(labels.cpu())
    if not all_labels:
        raise TaskError("there is no sample to evaluate on; the data set or loader is empty")
    labels = torch.cat(all_labels).long()
    kept_logits = torch.cat(all_logits) if all_logits else None
    return Evaluation(kept_logits, labels.numpy(), total / len(labels), torch.cat(predictions).numpy())


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """The paired comparison of two models on the same samples in the same order.

    The test is McNemar's exact one (binomial on discordant pairs); the intervals are Agresti and Min's (Statistics in
    Medicine 24, 2005), Wald's with half a sample added to each discordant count, and the one of `bootstrap_interval`.

    Raises:
        TaskError: the two were not evaluated on the same labels.
    """
    if not np.array_equal(first.labels, second.labels):
        raise TaskError(f"evaluations of {first.samples} and {second.samples} samples do not have the same labels")
    n = first.samples
    only_first = int((first.correct & ~second.correct).sum())
    only_second = int((second.correct & ~first.correct).sum())
    discordant = only_first + only_second
    p_value = float(stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    b, c, m = only_first + 0.5, only_second + 0.5, n + 2
    centre, spread = (c - b) / m, 1.959964 * math.sqrt(b + c - (c - b) ** 2 / m) / m
    interval = (max(-1.0, centre - spread), min(1.0, centre + spread))
    drawn = bootstrap_interval(only_first, only_second, n)
    return Comparison((only_second - only_first) / n, interval, drawn, p_value, (only_first, only_second), n)


def bootstrap_interval(lost: int, gained: int, samples: int, seed: int = 0) -> tuple[float, float]:
    """The 95 % BCa bootstrap interval of a paired difference in accuracy (Efron, JASA 82, 1987).

    A resample is drawn as its counts of pairs (multinomial), which is the same in distribution as drawing pairs one by
    one (`scipy.stats.bootstrap`), and does not take longer for more samples.

    Args:
        lost, gained: samples that only the first had right, and that only the second had.
        samples: how many there are in all.
        seed: of the resamples.

    Returns:
        Edges of the second's accuracy less the first's; both are the difference itself where all samples agree.

    >>> [round(edge, 2) for edge in bootstrap_interval(30, 10, 200)]
    [-0.16, -0.04]
    """
    same = samples - lost - gained
    values, counts = np.array([-1.0, 0.0, 1.0]), np.array([lost, same, gained])
    found = float(values @ counts) / samples
    apart = values - found
    if samples in (lost, same, gained):
        return found, found
    resampled = np.random.default_rng(seed).multinomial(samples, counts / samples, RESAMPLES) @ values / samples
    centre = stats.norm.ppf(((resampled < found).mean() + (resampled <= found).mean()) / 2)
    edges = centre + stats.norm.ppf([0.025, 0.975])
    acceleration = (counts @ apart**3) / (6 * (counts @ apart**2) ** 1.5)
    shares = stats.norm.cdf(centre + edges / (1 - acceleration * edges))
    low, high = np.quantile(resampled, shares)
    return float(low), float(high)


def wilson_interval(successes: int, samples: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion.

    >>> [round(edge, 3) for edge in wilson_interval(90, 100)]
    [0.826, 0.945]
    """
    interval = stats.binomtest(successes, samples).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)
