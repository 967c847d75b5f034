"""Edge pruning of transformers by a q-bit search: the published experiment, what it lacked, and ours beside it.

"Quantum-Inspired Compression and Distillation of Large Language Models for Edge Intelligence": every linear layer is
masked by 10 or 25 % of its smallest weights, as one shared angle decides; five configurations are tried on the very
sentences that are reported on. Masks change neither the file nor the time, so whatever latency moves is noise.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import optuna
import torch

from coldpress import splits
from coldpress.budget import Budget
from coldpress.errors import BudgetError
from coldpress.evaluate import Evaluation, compare
from coldpress.network import batches_alike
from coldpress.papers.edge_curvature import amounts_by_curvature
from coldpress.papers.edge_masks import masked, prunable
from coldpress.papers.edge_pruning_table import (
    AMOUNTS,
    BUDGETS,
    ITERATIONS,
    METHODS,
    UNIFORM,
    Row,
    Scale,
    published,
)
from coldpress.pipeline import compress
from coldpress.recovery import Settings, distil, held
from coldpress.search.objective import SearchSettings
from coldpress.search.samplers import sampler
from coldpress.task import Split, Task

AS_PUBLISHED, CORRECTED = "as published", "corrected"
TEACHER, SEARCHED, DISTILLED = "teacher", "q-bit search", "distilled"
SAME_SIZE, CURVATURE = "uniform L1, masks", "curvature solver, masks"
MOST_CLASSES = 20
"""Of confusion matrices that are kept."""


class EdgePruning:
    """The experiment on one task.

    Args:
        task: a classifier with train, validation and test data.
        scale: how much is done.
        folder: where our runs keep what several of them need.
        known: rows of an earlier run.
        tell: called with (what, done, in all).
    """

    def __init__(
        self,
        task: Task,
        scale: Scale,
        folder: Path,
        known: Sequence[Row] = (),
        tell: Callable[[str, int, int], None] | None = None,
    ) -> None:
        self.task, self.scale, self.folder, self.tell = copy.copy(task), scale, folder, tell
        self._part = ""  # of train, in words
        if scale.trained is not None and len(task.data("train")) > 2 * scale.trained:
            _, self.task.train = splits.split(task.train, task.seed, wanted=scale.trained)
            self._part = f" of {scale.trained} samples"
        self.layers = prunable(task.model)
        self.megabytes = sum(p.numel() * p.element_size() for p in task.model.parameters()) / 1e6
        self.settings = SearchSettings()
        self._known = {row.name: row for row in known}
        self._sample = task.calibration(max(scale.search, scale.timed))

    def stages(self, budgets: Sequence[str] = BUDGETS, **recipe: Any) -> Iterator[Row]:
        """All rows, one by one; those that are known are not made again.

        Args:
            budgets: of our plans.
            recipe: further settings of theirs.
        """
        yield from published()
        uniform = dict.fromkeys(self.layers, UNIFORM)
        yield self._row(AS_PUBLISHED, TEACHER, 0, partial(self._masked, {}))
        yield self._row(AS_PUBLISHED, f"uniform L1, {UNIFORM:.0%}", 0, partial(self._masked, uniform))
        yield self._row(AS_PUBLISHED, SEARCHED, self.scale.seeds[0], self._as_published)
        searches = []
        for method, seed in itertools.product(METHODS, self.scale.seeds):
            row = self._row(CORRECTED, f"{method}, masks", seed, partial(self._searched, method, seed))
            searches.append(row)
            self._say("searches", len(searches), len(METHODS) * len(self.scale.seeds))
            yield row
        same = self._row(CORRECTED, SAME_SIZE, 0, partial(self._same_size, searches))
        yield same
        found = [same, *searches]
        for seed in self.scale.seeds:
            found.append(self._row(CORRECTED, CURVATURE, seed, partial(self._by_curvature, searches, seed)))
            yield found[-1]
        for done, row in enumerate(found):
            yield self._row(CORRECTED, f"{row.method}, {DISTILLED}", row.seed, partial(self._distilled, row))
            self._say("distil", done + 1, len(found))
        plans = list(itertools.product(self.scale.seeds, budgets, (0, self.scale.epochs)))
        for done, (seed, budget, epochs) in enumerate(plans):
            method = f"coldpress, {budget}" + (f", {DISTILLED}" if epochs else "")
            choices = row.facts.get("choices", ()) if epochs else ()  # the plan is that of the row before
            row = self._row(CORRECTED, method, seed, partial(self._physical, seed, budget, epochs, choices, recipe))
            yield row
            self._say("plans", done + 1, len(plans))

    def timed(self, rows: Sequence[Row]) -> list[Row]:
        """The rows, all masks timed again one after another: before, each had its own moment, hours apart."""
        own = [row for row in rows if "amounts" in row.facts]
        found: dict[tuple[str, str, int], float] = {}
        for done, row in enumerate(own):
            with masked(self.task.model, row.facts["amounts"]):
                found[row.name] = self._milliseconds()
            self._say("time", done + 1, len(own))

        def again(row: Row) -> Row:
            known = row.kind, row.method.removesuffix(f", {DISTILLED}"), row.seed  # distilled masks are as many
            return replace(row, milliseconds=found.get(known, row.milliseconds))

        return [again(row) for row in rows]

    def _row(self, kind: str, method: str, seed: int, make: Callable[[], dict[str, Any]]) -> Row:
        """The row as it is known, or made of what ``make`` finds."""
        return self._known.get((kind, method, seed)) or Row(kind, method, seed=seed, **make())

    def _as_published(self) -> dict[str, Any]:
        """The search to the letter: five iterations, the best of which is what is reported."""
        study = optuna.create_study(sampler=sampler("legacy", self.scale.seeds[0]))
        iterations: list[dict[str, Any]] = []

        def objective(trial: optuna.Trial) -> float:
            amounts = {name: trial.suggest_categorical(name, AMOUNTS) for name in self.layers}
            found = self._masked(amounts)
            trial.set_user_attr("found", found)
            ms, accuracy = found["milliseconds"], found["accuracy"]
            fitness = self.settings.fitness(accuracy, ms / 1e3, 1e6 * self.megabytes)
            entry = {"iteration": trial.number, "fitness": fitness, "accuracy": accuracy, "ms": ms}
            iterations.append({**entry, "sparsity": found["sparsity"]})
            self._say("as published", trial.number + 1, ITERATIONS)
            return fitness

        study.optimize(objective, n_trials=ITERATIONS)
        found = study.best_trial.user_attrs["found"]
        note = "searched, chosen and reported on the same data; latency without warm-up"
        return {**found, "note": note, "facts": {**found["facts"], "iterations": iterations}}

    def _searched(self, method: str, seed: int) -> dict[str, Any]:
        """The same masks, searched on samples of train; of the best three validation data choose; reported once."""
        study = optuna.create_study(sampler=self._sampler(method, seed))
        inputs, labels = ([t[: self.scale.search] for t in self._sample[0]], self._sample[1][: self.scale.search])
        batches = batches_alike(inputs, 32)

        def objective(trial: optuna.Trial) -> float:
            amounts = {name: trial.suggest_categorical(name, AMOUNTS) for name in self.layers}
            with masked(self.task.model, amounts), torch.inference_mode():
                right = sum(int((self.task.model(*part).argmax(1) == labels[rows]).sum()) for rows, part in batches)
            return self.settings.fitness(right / len(labels), 0.0, 1e6 * self.megabytes)

        study.optimize(objective, n_trials=self.scale.evaluations)
        best = sorted(study.trials, key=lambda trial: trial.value or math.inf)[:3]
        scores = [self._evaluated(trial.params, "validation").accuracy for trial in best]
        found = self._masked(best[scores.index(max(scores))].params)
        population = f", {self.scale.population} a generation" if method == "nsga2" else ""
        return {**found, "note": f"{self.scale.evaluations} evaluations each{population}"}

    def _sampler(self, method: str, seed: int) -> optuna.samplers.BaseSampler:
        """By name; NSGA-II would draw its first 50 plans at random, which here would be all of them."""
        if method == "nsga2":
            return optuna.samplers.NSGAIISampler(population_size=self.scale.population, seed=seed)
        return sampler(method, seed)

    def _same_size(self, searches: Sequence[Row]) -> dict[str, Any]:
        """Every layer masked alike, as much as the searches' masks in the mean."""
        weights = [self.task.model.get_submodule(name).get_parameter("weight").numel() for name in self.layers]
        whole = sum(p.numel() for p in self.task.model.parameters())
        found = self._masked(dict.fromkeys(self.layers, mean_sparsity(searches) * whole / sum(weights)))
        return {**found, "note": "at the mean sparsity of the searches"}

    def _by_curvature(self, searches: Sequence[Row], seed: int) -> dict[str, Any]:
        """The same amounts to choose from, at the searches' mean sparsity or more, without a single evaluation."""
        inputs, sparsity = self.task.calibration(self.scale.calibration)[0], mean_sparsity(searches)
        found = self._masked(amounts_by_curvature(self.task.model, self.layers, inputs, AMOUNTS, sparsity, seed=seed))
        return {**found, "note": f"no evaluation; {len(inputs[0])} gradients"}

    def _distilled(self, row: Row) -> dict[str, Any]:
        """A row's masks, kept while the network learns from the original."""
        student = copy.deepcopy(self.task.model)
        with masked(student, row.facts["amounts"]):
            weights = {name: student.get_submodule(name).get_parameter("weight") for name in self.layers}
            stay = {name: weight.detach() != 0 for name, weight in weights.items()}
        with held(student, stay):
            settings = Settings(
                epochs=self.scale.epochs, lr=2e-5, optimizer="adamw", batch_size=32, weight_decay=0, seed=row.seed
            )
            history = distil(student, self.task.model, self.task, settings, temperature=2.0)
        share = sum(int((~mask).sum()) for mask in stay.values()) / sum(p.numel() for p in student.parameters())
        found = self._reported(self.task.evaluate(student, self.task.report_split))
        size = {"milliseconds": row.milliseconds, "megabytes": self.megabytes, "sparsity": share}
        found["facts"]["best_epoch"] = history.best
        return {**found, **size, "note": self._training()}

    def _physical(
        self, seed: int, budget: str, epochs: int, choices: Sequence[str], recipe: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the curvature solver and surgery make of the task, as deployed."""
        given: dict[str, Any] = {"lr": 2e-5, "optimizer": "adamw", "batch_size": 32}
        given |= {"calibration": self.scale.calibration, "refit_plans": 0, **recipe}
        try:
            result = compress(
                self.task, Budget.parse([budget]), epochs=epochs, seed=seed, choices=tuple(choices),
                measurements=self.folder, **given,
            )  # fmt: skip
        except BudgetError as error:
            return {"accuracy": None, "note": f"skipped: {error}"}
        after, before = result.metrics["compressed"], result.metrics["original"]
        times = after["latency_ms"]["median"], before["latency_ms"]["median"]
        return {
            "accuracy": after["accuracy"],
            "interval": tuple(after["accuracy_interval"]),
            "milliseconds": times[0],
            "megabytes": after["file_bytes"] / 1e6,
            "sparsity": after["sparsity"],
            "note": "ONNX Runtime" + (f"; {self._training()}" if epochs else ""),
            "facts": {
                "comparison": result.metrics["comparison"],
                "choices": [f"{unit}={label}" for unit, label in result.plan.choices.items()],
                "epochs": epochs,
                "latency_fraction": times[0] / times[1],
                "bytes_fraction": after["file_bytes"] / before["file_bytes"],
            },
        }

    def _training(self) -> str:
        return f"{self.scale.epochs} epoch{'s' if self.scale.epochs > 1 else ''}{self._part}"

    def _masked(self, amounts: Mapping[str, float]) -> dict[str, Any]:
        """The masked network on the data that is reported on."""
        with masked(self.task.model, amounts) as share:
            found = self.task.evaluate(self.task.model, self.task.report_split)
            ms = self._milliseconds()
        sizes = {"milliseconds": ms, "megabytes": self.megabytes, "sparsity": share}
        return {**self._reported(found, amounts=dict(amounts)), **sizes}

    def _reported(self, found: Evaluation, **facts: Any) -> dict[str, Any]:
        facts["comparison"] = asdict(compare(self._teacher, found))
        if self.task.num_classes <= MOST_CLASSES:
            facts["confusion"] = found.confusion(self.task.num_classes).tolist()
        return {"accuracy": found.accuracy, "interval": found.accuracy_interval, "facts": facts}

    @cached_property
    def _teacher(self) -> Evaluation:
        return self._evaluated({}, self.task.report_split)

    def _evaluated(self, amounts: Mapping[str, float], split: Split) -> Evaluation:
        with masked(self.task.model, amounts):
            return self.task.evaluate(self.task.model, split)

    def _milliseconds(self) -> float:
        """Mean over samples, one by one, in PyTorch, as the authors time it."""
        inputs = [tensor[: self.scale.timed] for tensor in self._sample[0]]
        start = time.perf_counter()
        with torch.inference_mode():
            for i in range(len(inputs[0])):
                self.task.model(*[tensor[i : i + 1] for tensor in inputs])
        return 1e3 * (time.perf_counter() - start) / len(inputs[0])

    def _say(self, what: str, done: int, total: int) -> None:
        if self.tell:
            self.tell(what, done, total)


def mean_sparsity(rows: Sequence[Row]) -> float:
    """Of all rows."""
    return sum(row.sparsity for row in rows) / len(rows)
