"""One network of the experiment on QIANets, by one seed: its baseline, and a row by every method."""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldpress import zoo
from coldpress.budget import Budget
from coldpress.cost.table import LatencyTable
from coldpress.data import example_of
from coldpress.errors import BudgetError, TaskError
from coldpress.files import write_tensors, write_text
from coldpress.keys import run_key
from coldpress.papers.qianets_measured import Measurements
from coldpress.papers.qianets_scores import attention_scores, fisher_scores
from coldpress.papers.qianets_search import searched
from coldpress.papers.qianets_steps import as_published, corrected
from coldpress.papers.qianets_table import (
    ALL,
    ASKED,
    AT_RATIO,
    BASELINE,
    BY_ATTENTION,
    BY_FISHER,
    CONTROL,
    CONTROL_DISTILLED,
    CONTROL_SEARCHED,
    ENTANGLEMENT,
    FURTHER,
    LEGACY,
    MAGNITUDE,
    METHODS,
    OTHER_READING,
    OURS,
    PLAIN,
    PUBLISHED,
    SEARCHED,
    STRUCTURE,
    WEIGHTS,
    WEIGHTS_MAGNITUDE,
    Ratios,
    Row,
    Scale,
)
from coldpress.pipeline import compress
from coldpress.recipe import Recipe
from coldpress.recovery import History, Settings, distil, fit, held, recalibrate
from coldpress.space import channel_groups
from coldpress.surgery.dead import extend_masks, remove_dead_channels
from coldpress.surgery.retention import prune_weights
from coldpress.task import Task

HALVINGS, MOST, STAGES = 6, 0.95, 3


class Case:
    """One network and seed: the baseline, and what becomes of it.

    Args:
        name: of the network, one of `PUBLISHED`.
        seed: of its weights and of every choice.
        given: its data.
        scale: how much is done.
        folder: where baseline, search and measurements are kept, for a run that goes on.
        say: called with (what, done, in all).
    """

    def __init__(
        self, name: str, seed: int, given: zoo.Splits, scale: Scale, folder: Path, say: Callable[[str, int, int], None]
    ) -> None:
        self.name, self.seed, self.scale, self.folder, self.say = name, seed, scale, folder, say
        self.given, self.published = given, PUBLISHED[name]
        self.settings = Settings(
            epochs=scale.final_epochs, optimizer=scale.optimizer, schedule=scale.schedule, lr=1e-3, weight_decay=1e-4,
            batch_size=scale.batch_size, seed=seed,
        )  # fmt: skip

    def row(self, method: str) -> Row:
        """One method's row."""
        start = time.perf_counter()
        found = self._row(method)
        shutil.rmtree(self._kept(method), ignore_errors=True)
        return replace(found, seconds=time.perf_counter() - start)

    def _row(self, method: str) -> Row:
        make: dict[str, Callable[[], Row]] = {
            BASELINE: lambda: self._measured(BASELINE, self.task.model, self._curve(), {}),
            CONTROL: lambda: self._trained(CONTROL, copy.deepcopy(self.task.model), {}),
            CONTROL_SEARCHED: lambda: self._trained(
                CONTROL_SEARCHED, copy.deepcopy(self.task.model), self._found("batch_size", "lr")
            ),
            CONTROL_DISTILLED: self._distilled,
            LEGACY: lambda: self._legacy(LEGACY, lambda sparsity: sparsity),
            OTHER_READING: lambda: self._legacy(OTHER_READING, lambda sparsity: 1.0 - sparsity),
            SEARCHED: lambda: self._corrected(SEARCHED, dict(self.best)),
            AT_RATIO: lambda: self._corrected(AT_RATIO, self.at_ratio),
            PLAIN: lambda: self._corrected(PLAIN, self.at_ratio, attention=False),
            MAGNITUDE: lambda: self._by_scores(MAGNITUDE, None),
            BY_ATTENTION: lambda: self._by_scores(BY_ATTENTION, self._attention()),
            BY_FISHER: lambda: self._by_scores(BY_FISHER, fisher_scores(self.task, self.scale.calibration)),
            WEIGHTS: lambda: self._masked(WEIGHTS, ENTANGLEMENT),
            WEIGHTS_MAGNITUDE: lambda: self._masked(WEIGHTS_MAGNITUDE, 0.0),
            OURS: lambda: self._ours(OURS, Ratios(self.published.faster, self.published.smaller, ALL)),
            STRUCTURE: lambda: self._ours(STRUCTURE, ASKED[self.name][STRUCTURE]),
            FURTHER: lambda: self._ours(FURTHER, ASKED[self.name][FURTHER]),
        }
        return make[method]()

    @cached_property
    def task(self) -> Task:
        """The trained baseline and its data."""
        torch.manual_seed(self.seed)
        model = zoo.model(f"torchvision:{self.name}", self._classes)
        task = Task(model, example_of(self.given.train), **self.given.arguments(), seed=self.seed, name=self.name)
        training = replace(self.settings, epochs=self.scale.epochs)
        self._check(run_key(task, Recipe(seed=self.seed)) + repr(training))
        path = self.folder / "baseline.safetensors"
        if path.exists():
            zoo.load_weights(task.model, path)
        else:
            kept = self.folder / "baseline"
            history = fit(task.model, task, training, checkpoint_dir=kept, progress=self._steps(BASELINE))
            write_text(self.folder / "baseline.json", json.dumps(scores(history)))
            write_tensors(path, task.model.state_dict(), {"format": "pt"})
            shutil.rmtree(kept)
        return task

    def _check(self, key: str) -> None:
        """Raise TaskError where the folder holds the baseline of other data, weights or training."""
        path = self.folder / "key.txt"
        if path.exists() and path.read_text() != key:
            raise TaskError(f"{self.folder} was begun with other data or settings; choose another --out")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, key)

    def _curve(self) -> list[float | None]:
        """The baseline's."""
        return list(json.loads((self.folder / "baseline.json").read_text())) if self.task else []

    @property
    def _classes(self) -> int:
        return len(self.given.train.classes) or int(self.given.train.labels.max()) + 1

    @cached_property
    def best(self) -> dict[str, Any]:
        """The search's best settings: sparsity, rank, kernel of the attention, batch size and learning rate."""

        def curve(asked: Mapping[str, Any]) -> list[float | None]:
            history = fit(self._carried_out(asked), self.task, self._training(asked, self.scale.trial_epochs))
            return [epoch.validation_score for epoch in history.epochs]

        training = self._training({}, self.scale.trial_epochs)
        key = f"{run_key(self.task, Recipe(seed=self.seed))}, {self.scale.calibration} images, {training}"
        path, tell = self.folder / "study.log", partial(self.say, f"search, {self.name}")
        return searched(path, self.name, self.scale.trials, self.seed, key, curve, tell)

    def _found(self, *names: str) -> dict[str, Any]:
        return {name: self.best[name] for name in names}

    def _training(self, asked: Mapping[str, Any], epochs: int) -> Settings:
        own = {name: asked[name] for name in ("batch_size", "lr") if name in asked}
        return replace(self.settings, epochs=epochs, **own)

    def _carried_out(
        self, asked: Mapping[str, Any], attention: bool = True, importance: Mapping[str, Tensor] | None = None
    ) -> nn.Module:
        inputs, _ = self.task.calibration(self.scale.calibration)
        return corrected(
            self.task.model, self.task.example_inputs, inputs, asked["sparsity"], asked["rank"],
            kernel=asked.get("kernel"), attention=attention, importance=importance,
            entanglement=asked.get("entanglement", ENTANGLEMENT), table=self._table, seed=self.seed,
        )  # fmt: skip

    @cached_property
    def _table(self) -> LatencyTable:
        return LatencyTable()

    @cached_property
    def at_ratio(self) -> dict[str, Any]:
        """Settings of a network that is as many times smaller as was published: channels alone, by bisection.

        The paper decomposes too, and so does the row of the search. Here ranks of 5 to 50 would go far beyond the ratio
        by themselves. Ranks by a rule would depend on which channels stay, and by measured times on whether a layer is
        factorised at all: parameters would not fall steadily as the bisection needs, and the rows of as many channels
        would differ in their factors as well.
        """
        whole = _parameters(self.task.model)
        asked = {"kernel": self.best["kernel"], "rank": None}
        low, high = 0.0, MOST
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            small = _parameters(self._carried_out({**asked, "sparsity": middle})) <= whole / self.published.smaller
            low, high = (low, middle) if small else (middle, high)
        return {**asked, "sparsity": high}

    def _legacy(self, method: str, read: Callable[[float], float]) -> Row:
        """The public code's steps; what is not published of its settings is what the search found."""
        theirs = {"sparsity": self.published.sparsity, "rank": self.published.rank}
        unknown = [name for name, value in theirs.items() if value is None]
        asked = theirs | self._found(*unknown)
        asked["sparsity"] = read(asked["sparsity"])
        student = as_published(self.task.model, asked["sparsity"], asked["rank"], seed=self.seed)
        note = f"{' and '.join(unknown)} not published: the search's" if unknown else ""
        return replace(self._trained(method, student, asked), note=note)

    def _corrected(
        self, method: str, asked: dict[str, Any], attention: bool = True, importance: Mapping[str, Tensor] | None = None
    ) -> Row:
        return self._trained(method, self._carried_out(asked, attention, importance), asked)

    def _by_scores(self, method: str, importance: Mapping[str, Tensor] | None) -> Row:
        return self._corrected(method, {**self.at_ratio, "entanglement": 0.0}, False, importance)

    def _attention(self) -> dict[str, Tensor]:
        steps, images = self._steps(BY_ATTENTION), self.scale.calibration
        return attention_scores(self.task, self.best["kernel"], images, self.settings, steps)

    def _masked(self, method: str, entanglement: float) -> Row:
        """Single weights are held at zero while the network learns; channels that this leaves without effect go."""
        asked = {**self.at_ratio, "entanglement": entanglement}
        student = copy.deepcopy(self.task.model)
        masks = prune_weights(
            student, asked["sparsity"], entanglement=entanglement, stages=STAGES, seed=self.seed
        ).masks
        groups = list(channel_groups(student, self.task.example_inputs)[0].values())
        with held(student, extend_masks(student, groups, masks)):
            recalibrate(student, self.task.calibration(self.scale.calibration)[0])
            history = self._fit(method, student, asked)
        asked["dead_channels"] = sum(remove_dead_channels(student, groups, self.task.example_inputs).values())
        return self._measured(method, student, scores(history), asked)

    def _trained(self, method: str, student: nn.Module, asked: dict[str, Any]) -> Row:
        return self._measured(method, student, scores(self._fit(method, student, asked)), asked)

    def _distilled(self) -> Row:
        """The baseline trained on as our own rows are: towards its own answers, by the defaults of `compress`."""
        student, usual, method = copy.deepcopy(self.task.model), Recipe(), CONTROL_DISTILLED
        history = distil(
            student, self.task.model, self.task, self.settings, temperature=usual.temperature,
            weight=usual.distil_weight, checkpoint_dir=self._kept(method), progress=self._steps(method),
        )  # fmt: skip
        return self._measured(method, student, scores(history), {})

    def _fit(self, method: str, student: nn.Module, asked: Mapping[str, Any]) -> History:
        training = self._training(asked, self.scale.final_epochs)
        return fit(student, self.task, training, checkpoint_dir=self._kept(method), progress=self._steps(method))

    def _kept(self, method: str) -> Path:
        """Where the epochs of a row are until it is measured."""
        return self.folder / f"row-{METHODS.index(method)}"

    def _measured(self, method: str, student: nn.Module, curve: Sequence[float | None], asked: dict[str, Any]) -> Row:
        return Row(self.name, method, self.seed, self._measurements.of(method, student), asked, tuple(curve))

    @cached_property
    def _measurements(self) -> Measurements:
        return Measurements(self.task, self.folder, self.seed)

    def _ours(self, method: str, ratios: Ratios) -> Row:
        """Our plan that is so many times smaller and faster."""
        limits = Budget(latency=f"{100 / ratios.faster:.4g}%", size=f"{100 / ratios.smaller:.4g}%")
        names = ("optimizer", "lr", "schedule", "weight_decay", "batch_size")
        training: dict[str, Any] = {name: getattr(self.settings, name) for name in names}
        count, folder = self.scale.calibration, self.folder / f"plan-{METHODS.index(method)}"
        try:
            found = compress(
                self.task, limits, epochs=self.scale.final_epochs, seed=self.seed, calibration=count,
                refit_images=2 * count, units=ratios.units, measurements=self.folder / "measured",
                measure_seconds=self.scale.measure_seconds, refit_plans=0, out=folder, overwrite=True,
                progress=lambda step, done, total: self.say(f"{self.name}: {method}, {step}", done, total),
                **training,
            )  # fmt: skip
        except BudgetError as error:
            return Row(self.name, method, self.seed, note=f"skipped: {error}")
        details = json.loads((folder / "details.json").read_text())
        metrics = self._measurements.of_artifact(method, folder, found.metrics, details)
        curve = tuple(point["validation_accuracy"] for point in details["history"])
        return Row(self.name, method, self.seed, metrics, limits.given(), curve)

    def _steps(self, method: str) -> Callable[[int, int, float], None]:
        return lambda step, steps, _: self.say(f"{self.name}: {method}", step, steps)


def scores(history: History) -> tuple[float | None, ...]:
    """Validation scores by epoch."""
    return tuple(epoch.validation_score for epoch in history.epochs)


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
