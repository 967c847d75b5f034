"""Edge pruning of transformers by a q-bit search: the published experiment, what it lacked, and ours beside it.

"Quantum-Inspired Compression and Distillation of Large Language Models for Edge Intelligence": every linear layer is
masked by 10 or 25 % of its smallest weights, as one shared angle decides; five configurations are tried on the very
sentences that are reported on. Masks change neither the file nor the time, so whatever latency moves is noise.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
import torch
from torch import nn

from coldpress.budget import Budget
from coldpress.errors import BudgetError
from coldpress.evaluate import Evaluation, compare, wilson_interval
from coldpress.pipeline import compress
from coldpress.recovery import Settings, distil, held
from coldpress.search.objective import SearchSettings
from coldpress.search.samplers import sampler
from coldpress.task import Split, Task

logger = logging.getLogger("coldpress.papers")

AMOUNTS = (0.10, 0.25)
UNIFORM = 0.15
ITERATIONS = 5
PUBLISHED = (("teacher", 0.9106, 178.64), ("uniform L1, 15 %", 0.9048, 188.90), ("q-bit search", 0.9140, 189.14))
"""Accuracy and milliseconds a sample as the system's authors report them, on DistilBERT and SST-2."""
METHODS = ("legacy", "random", "tpe", "nsga2", "qiea")


@dataclass(frozen=True)
class Scale:
    """How much is done.

    Attributes:
        evaluations: of every search.
        seeds: of every search.
        search: samples of train that searches judge by.
        timed: samples that are timed one by one.
        epochs: of distillation, for the rows "distilled".
    """

    evaluations: int
    seeds: tuple[int, ...]
    search: int
    timed: int
    epochs: int


SCALES = {
    "tiny": Scale(3, (0,), 64, 8, 1),
    "short": Scale(20, (0, 1, 2), 512, 100, 1),
    "paper": Scale(50, (0, 1, 2), 2048, 872, 3),
}


@dataclass(frozen=True)
class Row:
    """One line of the comparison; ``accuracy`` is on the test data, ``accuracies`` one for each seed.

    Attributes:
        kind: "published", "as published" (searched and reported on the same data) or "corrected".
        name: of the method.
        accuracies: fractions.
        interval: 95 % interval of the first seed's accuracy.
        milliseconds: of one sample.
        megabytes: of the weights or, of what was deployed, the file.
        sparsity: fraction of zeros.
        note: what to know.
        facts: everything else, JSON-ready.
    """

    kind: str
    name: str
    accuracies: tuple[float, ...]
    interval: tuple[float, float] | None = None
    milliseconds: float | None = None
    megabytes: float | None = None
    sparsity: float = 0.0
    note: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Mean over seeds."""
        return sum(self.accuracies) / len(self.accuracies)


def prunable(model: nn.Module) -> list[str]:
    """Names of the linear layers, in the order of the model."""
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


@contextmanager
def masked(model: nn.Module, amounts: Mapping[str, float]) -> Iterator[float]:
    """Layers without the given fraction of their smallest weights, for a while; yields the fraction of zeros in all."""
    saved = {name: model.get_submodule(name).get_parameter("weight") for name in amounts}
    zeros = 0
    try:
        for name, amount in amounts.items():
            weight, count = saved[name].detach().clone(), round(amount * saved[name].numel())
            if count:
                weight.view(-1)[weight.abs().flatten().topk(count, largest=False).indices] = 0.0
            model.get_submodule(name).register_parameter("weight", nn.Parameter(weight))
            zeros += count
        yield zeros / sum(p.numel() for p in model.parameters())
    finally:
        for name, weight in saved.items():
            model.get_submodule(name).register_parameter("weight", weight)


class EdgePruning:
    """The experiment on one task.

    Args:
        task: a classifier with train, validation and test data.
        scale: how much is done.
        tell: called with (what, done, in all).
    """

    def __init__(self, task: Task, scale: Scale, tell: Callable[[str, int, int], None] | None = None) -> None:
        self.task, self.scale, self.tell = task, scale, tell
        self.layers = prunable(task.model)
        self.megabytes = sum(p.numel() * p.element_size() for p in task.model.parameters()) / 1e6
        self.settings = SearchSettings()
        self.log: list[dict[str, Any]] = []
        self._sample = task.calibration(max(scale.search, scale.timed))

    def stages(self, **recipe: Any) -> Iterator[list[Row]]:
        """All of it, part by part; ``recipe`` is for `physical`."""
        yield self.published()
        yield self.as_published()
        corrected = self.corrected()
        yield corrected
        yield self.distilled(corrected)
        yield self.physical(**recipe)

    def published(self) -> list[Row]:
        """What the authors report."""
        note = "on DistilBERT, another machine"
        return [Row("published", name, (accuracy,), None, ms, None, note=note) for name, accuracy, ms in PUBLISHED]

    def as_published(self) -> list[Row]:
        """Their procedure to the letter, on this task: teacher, uniform masks, and the search over five iterations."""
        kind, same = "as published", "searched, chosen and reported on the same data; latency without warm-up"
        rows = [
            self._row(kind, "teacher", {}),
            self._row(kind, "uniform L1, 15 %", dict.fromkeys(self.layers, UNIFORM)),
        ]
        study = optuna.create_study(sampler=sampler("legacy", self.scale.seeds[0]))

        def objective(trial: optuna.Trial) -> float:
            amounts = {name: trial.suggest_categorical(name, AMOUNTS) for name in self.layers}
            row = self._row(kind, "q-bit search", amounts, same)
            trial.set_user_attr("row", row)
            fitness = self.settings.fitness(row.accuracy, (row.milliseconds or 0.0) / 1e3, 1e6 * self.megabytes)
            entry = {"iteration": trial.number, "fitness": fitness, "accuracy": row.accuracy, "ms": row.milliseconds}
            self.log.append({**entry, "sparsity": row.sparsity})
            self._say("as published", trial.number + 1, ITERATIONS)
            return fitness

        study.optimize(objective, n_trials=ITERATIONS)
        return [*rows, study.best_trial.user_attrs["row"]]

    def corrected(self) -> list[Row]:
        """The same masks, searched on train, chosen on validation, reported once; every method as many evaluations."""
        rows: list[Row] = []
        for number, method in enumerate(METHODS):
            found = []
            for seed in self.scale.seeds:
                found.append(self._searched(method, seed))
                self._say("searches", number * len(self.scale.seeds) + len(found), len(METHODS) * len(self.scale.seeds))
            rows.append(self._over_seeds(f"{method}, masks", found, f"{self.scale.evaluations} evaluations each"))
        weights = [self.task.model.get_submodule(name).get_parameter("weight").numel() for name in self.layers]
        whole = sum(p.numel() for p in self.task.model.parameters())
        share = sum(row.sparsity for row in rows) / len(rows)
        same = self._row("corrected", "uniform L1", dict.fromkeys(self.layers, share * whole / sum(weights)))
        return [replace(same, note="at the mean sparsity of the searches"), *rows]

    def physical(self, budgets: Sequence[str] = ("latency=50%", "latency=25%"), **recipe: Any) -> list[Row]:
        """What the curvature solver and surgery make of the task, without and with distillation, as deployed."""
        rows = []
        for budget in budgets:
            for epochs in (0, self.scale.epochs):
                try:
                    limits = Budget.parse([budget])
                    result = compress(self.task, limits, epochs=epochs, seed=self.scale.seeds[0], **recipe)
                except BudgetError as error:
                    logger.warning("%s: %s", budget, error)
                    break
                after, before = result.metrics["compressed"], result.metrics["original"]
                name = f"coldpress, {budget}" + (", distilled" if epochs else "")
                ratio = after["latency_ms"]["median"] / before["latency_ms"]["median"]
                row = Row(
                    "corrected",
                    name,
                    (after["accuracy"],),
                    tuple(after["accuracy_interval"]),
                    after["latency_ms"]["median"],
                    after["file_bytes"] / 1e6,
                    after["sparsity"],
                    f"ONNX Runtime: {ratio:.1%} of the original's {before['latency_ms']['median']:.3g} ms",
                    {"comparison": result.metrics["comparison"], "epochs": epochs},
                )
                rows.append(row)
                self._say("physical", len(rows), 2 * len(budgets))
        return rows

    def distilled(self, rows: Sequence[Row]) -> list[Row]:
        """The corrected searches' masks, kept while the network learns from the original."""
        found = []
        for row in rows:
            student = copy.deepcopy(self.task.model)
            with masked(student, row.facts["amounts"]):
                weights = {name: student.get_submodule(name).get_parameter("weight") for name in self.layers}
                stay = {name: weight.detach() != 0 for name, weight in weights.items()}
            with held(student, stay):
                settings = Settings(epochs=self.scale.epochs, lr=2e-5, optimizer="adamw", batch_size=32, weight_decay=0)
                distil(student, self.task.model, self.task, settings, temperature=2.0)
            judged = self.task.evaluate(student, self.task.report_split)
            share = sum(int((~mask).sum()) for mask in stay.values()) / sum(p.numel() for p in student.parameters())
            found.append(
                Row(
                    "corrected",
                    f"{row.name}, distilled",
                    (judged.accuracy,),
                    judged.accuracy_interval,
                    row.milliseconds,
                    self.megabytes,
                    share,
                    f"{self.scale.epochs} epochs, first seed",
                )
            )
            self._say("distil", len(found), len(rows))
        return found

    def _searched(self, method: str, seed: int) -> Row:
        """One search over masks by accuracy on samples of train; the best three are compared on validation data."""
        study = optuna.create_study(sampler=sampler(method, seed))
        inputs, labels = self._sample
        part = [tensor[: self.scale.search] for tensor in inputs], labels[: self.scale.search]

        def objective(trial: optuna.Trial) -> float:
            amounts = {name: trial.suggest_categorical(name, AMOUNTS) for name in self.layers}
            with masked(self.task.model, amounts), torch.inference_mode():
                right = sum(
                    int((self.task.model(*[t[i : i + 32] for t in part[0]]).argmax(1) == part[1][i : i + 32]).sum())
                    for i in range(0, len(part[1]), 32)
                )
            return self.settings.fitness(right / len(part[1]), 0.0, 1e6 * self.megabytes)

        study.optimize(objective, n_trials=self.scale.evaluations)
        best = sorted(study.trials, key=lambda trial: trial.value or math.inf)[:3]
        scores = [self._evaluated(trial.params, "validation").accuracy for trial in best]
        chosen = best[scores.index(max(scores))].params
        return self._row("corrected", method, chosen)

    def _evaluated(self, amounts: Mapping[str, float], split: Split) -> Evaluation:
        with masked(self.task.model, amounts):
            return self.task.evaluate(self.task.model, split)

    def _row(self, kind: str, name: str, amounts: Mapping[str, float], note: str = "") -> Row:
        with masked(self.task.model, amounts) as share:
            found = self.task.evaluate(self.task.model, self.task.report_split)
            ms = self._milliseconds()
        facts: dict[str, Any] = {"amounts": dict(amounts)} if amounts else {}
        if amounts:
            against = compare(self._evaluated({}, self.task.report_split), found)
            facts["difference"], facts["p_value"] = against.difference, against.p_value
        return Row(kind, name, (found.accuracy,), found.accuracy_interval, ms, self.megabytes, share, note, facts)

    def _milliseconds(self) -> float:
        """Mean over samples, one by one, in PyTorch, as the authors time it."""
        inputs = [tensor[: self.scale.timed] for tensor in self._sample[0]]
        start = time.perf_counter()
        with torch.inference_mode():
            for i in range(len(inputs[0])):
                self.task.model(*[tensor[i : i + 1] for tensor in inputs])
        return 1e3 * (time.perf_counter() - start) / len(inputs[0])

    def _over_seeds(self, name: str, rows: Sequence[Row], note: str) -> Row:
        first = rows[0]
        accuracies = tuple(row.accuracy for row in rows)
        right = round(first.accuracy * len(self._labels()))
        interval = wilson_interval(right, len(self._labels()))
        times = [row.milliseconds for row in rows if row.milliseconds is not None]
        ms, share = sum(times) / len(times), sum(row.sparsity for row in rows) / len(rows)
        return Row("corrected", name, accuracies, interval, ms, self.megabytes, share, note, first.facts)

    def _labels(self) -> Any:
        return [label for _, labels in self.task.batches(self.task.report_split) for label in labels.tolist()]

    def _say(self, what: str, done: int, total: int) -> None:
        if self.tell:
            self.tell(what, done, total)
