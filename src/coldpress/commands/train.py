"""`coldpress train`: a baseline to compress, with its accuracy and how it came about beside it."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from coldpress.commands.subject import build_model, check_new, read_data
from coldpress.commands.terminal import err, out, progress_bars
from coldpress.errors import TaskError
from coldpress.evaluate import Evaluation
from coldpress.files import write_tensors, write_text
from coldpress.proof import reproduce_command, versions
from coldpress.recipe import Recipe
from coldpress.recovery import Settings, fit
from coldpress.recovery.parallel import processes
from coldpress.report import formats
from coldpress.task import Split, Task
from coldpress.workspace import explained

JUDGED: tuple[Split, ...] = ("validation", "test")


def run(recipe: Recipe, settings: Settings, path: Path, overwrite: bool, hold_out: bool = True) -> None:
    """Train what a recipe names and write ``path`` and the JSON beside it.

    Without ``hold_out`` the validation data is learned from too, and the last epoch is kept. Of several processes that
    were launched together, all train and the main one writes and reports.
    """
    if path.suffix != ".safetensors":
        raise TaskError(f"--out is {path}; it must end in .safetensors")
    about = path.with_suffix(".json")
    for file in (path, about):
        check_new(file, overwrite)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    splits = read_data(recipe)
    torch.manual_seed(recipe.seed)  # the initial weights
    model = build_model(recipe.model, recipe.weights or "random", recipe.num_classes, splits)
    arguments = (splits if hold_out else splits.whole()).arguments()
    task = Task(model, None, **arguments, hold_out=hold_out, seed=recipe.seed, name=recipe.model)
    if task.train is None:
        raise TaskError(f"the data {recipe.data} has no train part; give one that has")
    checkpoints = path.with_name(path.name + ".partial")
    with progress_bars() as tell:

        def step(done: int, total: int, loss: float) -> None:
            tell("train", done, total, f"loss {loss:.3f}")

        history = fit(task.model, task, settings, checkpoint_dir=checkpoints, progress=step)
    if not processes().main:
        return
    for epoch in history.epochs:
        loss = "" if epoch.train_loss is None else f"train loss {epoch.train_loss:.4f}"
        known = epoch.validation_score is not None
        score = f"validation {formats.score(epoch.validation_score, task.metric_name)}" if known else ""
        err.print(f"epoch {epoch.epoch}: {', '.join(filter(None, (loss, score))) or 'as given'}", highlight=False)
    judged = {split: _judged(task.evaluate(model, split)) for split in JUDGED if getattr(task, split) is not None}
    facts = {
        "model": recipe.model,
        "weights": recipe.weights,
        "data": recipe.data,
        "accuracy": judged,
        "held_out": hold_out,
        "best_epoch": history.best,
        "epochs": [asdict(epoch) for epoch in history.epochs],
        "settings": asdict(settings),
        "command": reproduce_command(),
        "versions": versions(),
    }
    _write(model, path, about, facts)
    shutil.rmtree(checkpoints, ignore_errors=True)
    for split, values in judged.items():
        interval = formats.interval(values["interval"])
        likely = f"{formats.score(-values['loss'], task.metric_name)}, next token " if task.per_token else ""
        count = f"{values['samples']:,} {'tokens' if task.per_token else 'samples'}"
        out.print(f"{split}: {likely}{formats.percent(values['accuracy'], 2)} ({interval}, {count})")
    out.print(f"Wrote {path} and {about}", soft_wrap=True, highlight=False)


def _judged(found: Evaluation) -> dict[str, Any]:
    interval = list(found.accuracy_interval)
    return {"accuracy": found.accuracy, "interval": interval, "samples": found.samples, "loss": found.loss}


def _write(model: torch.nn.Module, path: Path, about: Path, facts: dict[str, Any]) -> None:
    """Both files, each written beside and renamed, the weights first."""
    with explained(path):
        write_tensors(path, model.state_dict())
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        write_text(about, json.dumps({**facts, "sha256": digest}, indent=1) + "\n")
