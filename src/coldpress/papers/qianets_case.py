"""One network of the experiment on QIANets, by one seed: its baseline, and a row by every method."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import torch
from torch import Tensor, nn

from coldpress import zoo
from coldpress.budget import Budget
from coldpress.cost.table import LatencyTable
from coldpress.data import example_of
from coldpress.errors import BudgetError
from coldpress.files import beside, write_tensors
from coldpress.papers.qianets_steps import as_published, corrected
from coldpress.papers.qianets_table import (
    ALL,
    ASKED,
    AT_RATIO,
    BASELINE,
    BY_ATTENTION,
    CONTROL,
    ENTANGLEMENT,
    FURTHER,
    KERNELS,
    LEGACY,
    MAGNITUDE,
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
from coldpress.proof import SIDES, measured
from coldpress.recipe import Recipe
from coldpress.recovery import Settings, fit, held
from coldpress.runtime.onnx import export
from coldpress.space import channel_groups
from coldpress.surgery.dead import remove_dead_channels
from coldpress.surgery.eca import eca_importance, insert_eca
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
            epochs=self.scale.final_epochs, optimizer="adamw", lr=1e-3, weight_decay=1e-4,
            batch_size=self.scale.batch_size, seed=seed,
        )  # fmt: skip

    def row(self, method: str) -> Row:
        """One method's row."""
        make: dict[str, Callable[[], Row]] = {
            BASELINE: lambda: self._measured(BASELINE, self.task.model, (), {}),
            CONTROL: lambda: self._trained(CONTROL, copy.deepcopy(self.task.model), {}),
            LEGACY: lambda: self._legacy(LEGACY, self.published.sparsity),
            OTHER_READING: lambda: self._legacy(
                OTHER_READING, None if self.published.sparsity is None else 1.0 - self.published.sparsity
            ),
            SEARCHED: lambda: self._corrected(SEARCHED, dict(self.best)),
            AT_RATIO: lambda: self._corrected(AT_RATIO, self.at_ratio),
            PLAIN: lambda: self._corrected(PLAIN, self.at_ratio, attention=False),
            MAGNITUDE: lambda: self._corrected(MAGNITUDE, {**self.at_ratio, "entanglement": 0.0}, attention=False),
            BY_ATTENTION: lambda: self._corrected(
                BY_ATTENTION, {**self.at_ratio, "entanglement": 0.0}, attention=False, importance=self._scores()
            ),
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
        path = self.folder / "baseline.safetensors"
        if path.exists():
            zoo.load_weights(task.model, path)
        else:
            training = replace(self.settings, epochs=self.scale.epochs)
            fit(task.model, task, training, checkpoint_dir=self.folder / "baseline", progress=self._steps(BASELINE))
            write_tensors(path, task.model.state_dict(), {"format": "pt"})
        return task

    @property
    def _classes(self) -> int:
        return len(self.given.train.classes) or int(self.given.train.labels.max()) + 1

    @cached_property
    def best(self) -> dict[str, Any]:
        """The search's best settings: sparsity, rank, kernel of the attention, batch size and learning rate."""
        self.folder.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(str(self.folder / "study.log"))
        )
        sampler = optuna.samplers.TPESampler(seed=self.seed)
        study = optuna.create_study(
            storage=storage, study_name=self.name, sampler=sampler, direction="maximize", load_if_exists=True
        )

        def objective(trial: optuna.Trial) -> float:
            asked = {
                "sparsity": trial.suggest_float("sparsity", 0.1, 0.9),
                "rank": trial.suggest_int("rank", 5, 50),
                "kernel": trial.suggest_categorical("kernel", KERNELS),
                "batch_size": trial.suggest_categorical("batch_size", (32, 64, 128)),
                "lr": trial.suggest_float("lr", 1e-4, 1e-2, log=True),
            }
            student = self._carried_out(asked)
            history = fit(student, self.task, self._training(asked, self.scale.trial_epochs))
            trial.set_user_attr("curve", [epoch.validation_score for epoch in history.epochs])
            self.say(f"search, {self.name}", trial.number + 1, self.scale.trials)
            return float(history.epochs[history.best].validation_score or 0.0)

        finished = sum(trial.state.is_finished() for trial in study.trials)
        study.optimize(objective, n_trials=max(self.scale.trials - finished, 0))
        return study.best_trial.params

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

        The ranks that the paper searches among are so low that factors alone would go far beyond it.
        """
        whole = _parameters(self.task.model)
        asked = {**self.best, "rank": None}
        low, high = 0.0, MOST
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            small = _parameters(self._carried_out({**asked, "sparsity": middle})) <= whole / self.published.smaller
            low, high = (low, middle) if small else (middle, high)
        return {**asked, "sparsity": high}

    def _legacy(self, method: str, sparsity: float | None) -> Row:
        if sparsity is None:
            return Row(self.name, method, self.seed, note="skipped: its sparsity is not published")
        rank = self.published.rank or self.best["rank"]
        student = as_published(self.task.model, sparsity, rank, seed=self.seed)
        return self._trained(method, student, {"sparsity": sparsity, "rank": rank})

    def _corrected(
        self,
        method: str,
        asked: dict[str, Any],
        attention: bool = True,
        importance: Mapping[str, Tensor] | None = None,
    ) -> Row:
        return self._trained(method, self._carried_out(asked, attention, importance), asked)

    def _scores(self) -> dict[str, Tensor]:
        """Importance of channels by attention put behind every BatchNorm of the baseline and trained with it."""
        model, inputs = copy.deepcopy(self.task.model), self.task.calibration(self.scale.calibration)[0]
        groups = list(channel_groups(model, self.task.example_inputs)[0].values())
        norms = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
        insert_eca(model, norms, self.task.example_inputs, self.best["kernel"])
        fit(model, self.task, self._training(self.best, self.scale.final_epochs), progress=self._steps(BY_ATTENTION))
        return eca_importance(model, groups, inputs, {f"{name}.1": name for name in norms})

    def _masked(self, method: str, entanglement: float) -> Row:
        """Single weights are held at zero while the network learns; channels that this leaves without effect go."""
        asked = {**self.at_ratio, "entanglement": entanglement}
        student = copy.deepcopy(self.task.model)
        masks = prune_weights(
            student, asked["sparsity"], entanglement=entanglement, stages=STAGES, seed=self.seed
        ).masks
        with held(student, masks):
            history = fit(
                student, self.task, self._training(asked, self.scale.final_epochs), progress=self._steps(method)
            )
        groups = list(channel_groups(student, self.task.example_inputs)[0].values())
        asked["dead_channels"] = sum(remove_dead_channels(student, groups, self.task.example_inputs).values())
        return self._measured(method, student, tuple(epoch.validation_score for epoch in history.epochs), asked)

    def _trained(self, method: str, student: nn.Module, asked: dict[str, Any]) -> Row:
        training = self._training(asked, self.scale.final_epochs)
        history = fit(student, self.task, training, progress=self._steps(method))
        return self._measured(method, student, tuple(epoch.validation_score for epoch in history.epochs), asked)

    def _measured(self, method: str, student: nn.Module, curve: Sequence[float | None], asked: dict[str, Any]) -> Row:
        whole = self.folder / "baseline.onnx"
        if not whole.exists():
            with beside(whole) as place:
                export(self.task.model, self.task.example_inputs, place)
        with tempfile.TemporaryDirectory(prefix="coldpress-") as folder:
            small = Path(folder) / "network.onnx"
            export(student, self.task.example_inputs, small)
            metrics, _ = measured(self.task, student, dict(zip(SIDES, (whole, small))), Recipe(seed=self.seed))
        return Row(self.name, method, self.seed, metrics, asked, tuple(curve))

    def _ours(self, method: str, ratios: Ratios) -> Row:
        """Our plan that is so many times smaller and faster."""
        limits = Budget(latency=f"{100 / ratios.faster:.4g}%", size=f"{100 / ratios.smaller:.4g}%")
        training: dict[str, Any] = {name: getattr(self.settings, name) for name in ("optimizer", "lr", "batch_size")}
        count = self.scale.calibration
        try:
            found = compress(
                self.task, limits, epochs=self.scale.final_epochs, seed=self.seed, calibration=count,
                refit_images=2 * count, units=ratios.units, measurements=self.folder / "measured",
                progress=lambda step, done, total: self.say(f"{self.name}: {method}, {step}", done, total),
                **training,
            )  # fmt: skip
        except BudgetError as error:
            return Row(self.name, method, self.seed, note=f"skipped: {error}")
        kept = ("original", "compressed", "comparison")
        return Row(self.name, method, self.seed, {key: found.metrics[key] for key in kept}, limits.given())

    def _steps(self, method: str) -> Callable[[int, int, float], None]:
        return lambda step, steps, _: self.say(f"{self.name}: {method}", step, steps)


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
