"""`coldpress search` and `coldpress worker`: plans tried out on data, by one process or many."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial
from rich.table import Table

from coldpress.artifact import check_output
from coldpress.commands.compress import carry_out, read_choices
from coldpress.commands.subject import read_task
from coldpress.commands.terminal import Tell, out, progress_bars
from coldpress.errors import CheckpointError, SearchError, TaskError
from coldpress.recipe import Recipe
from coldpress.recovery.attention import check_attention
from coldpress.recovery.parallel import check_alone
from coldpress.report import formats
from coldpress.run import Run
from coldpress.search.objective import DIRECTIONS, Objective, SearchSettings
from coldpress.search.prepare import effects, priced_problem, study_key, trial_data, validation_batches
from coldpress.search.storage import ERROR, RETRY, open_storage
from coldpress.search.study import ELSEWHERE, PLACED, Search, feasible
from coldpress.steps import training_settings
from coldpress.task import Task
from coldpress.workspace import Workspace

FINALISTS = 5


def run(
    recipe: Recipe,
    settings: SearchSettings,
    *,
    storage: str,
    name: str,
    trials: int,
    workers: int,
    timeout: float | None,
    plan: Path | None,
    log: Path | None,
    folder: Path | None,
    count: int,
    overwrite: bool,
) -> None:
    """Start a study or take it up, work its trials off, rank by validation data, and carry the ``count`` best out."""
    if min(trials, workers, count) < 1:
        raise TaskError(f"--n-trials is {trials}, --workers {workers}, --best {count}; they must be 1 or more")
    check_alone("search")
    if folder is not None:
        for place in range(count):
            check_output(numbered(folder, place), overwrite)
    if log is not None:
        check_log(log)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    open_storage(storage)  # before time is spent
    task = read_task(recipe)
    training_settings(recipe)  # what only the recovery would refuse
    if recipe.attention_weight > 0:
        check_attention(task.model, task.example_inputs)
    with progress_bars() as tell:
        with tempfile.TemporaryDirectory(prefix="coldpress-") as nowhere:
            run = Run(task, recipe, Workspace(Path(nowhere) / "search", study_key(task, recipe)), tell)
            space, found = effects(run, settings)
            problem = priced_problem(run, space, settings)
        search = Search.create(storage, name, recipe, settings, problem, study_key(task, recipe))
        objective = Objective(space, found, search.problem, trial_data(task, recipe, settings.images), settings)
        if plan is not None:
            chosen = dict(text.rpartition("=")[::2] for text in read_choices(plan))
            search.enqueue(objective.params(chosen))
        search.slots.fill(trials)
        with helpers(search, workers - 1, storage, recipe, timeout):
            work_off(search, objective, timeout, tell)
    if log is not None:
        write_log(search, log)
    best = search.best(max(FINALISTS, count))
    show(search, best)
    plans = [trial.user_attrs["choices"] for trial in ranked(task, objective, best)]
    if folder is not None and 0 < len(plans) < count:
        out.print(f"Of --best {count} there are {len(plans)}: more --n-trials may find more", style="yellow")
    carry_out_all(task, recipe, plans[:count], folder, overwrite)


def join(storage: str, name: str, timeout: float | None, given: Mapping[str, Any]) -> None:
    """Take part in a study that was started elsewhere; ``timeout`` seconds are counted from here."""
    begun = time.monotonic()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = Search.join(storage, name)
    recipe = search.recipe.changed(given)
    try:
        task = read_task(recipe)
    except (TaskError, CheckpointError) as error:
        raise SearchError(f"the study's model or data cannot be read here: {error}; {ELSEWHERE}") from error
    search.check_key(study_key(task, recipe))
    with progress_bars() as tell:
        with tempfile.TemporaryDirectory(prefix="coldpress-") as nowhere:
            run = Run(task, recipe, Workspace(Path(nowhere) / "search", "worker"), tell)
            space, found = effects(run, search.settings)
        data = trial_data(task, recipe, search.settings.images)
        objective = Objective(space, found, search.problem, data, search.settings)
        left = None if timeout is None else timeout - (time.monotonic() - begun)
        finished = work_off(search, objective, left, tell)
    out.print(f"{finished} trials done here, {search.slots.done()} in all")


def work_off(search: Search, objective: Objective, timeout: float | None, tell: Tell) -> int:
    """Work trials off under a progress bar that shows the best value so far."""

    def progress(done: int, total: int, _: optuna.Study) -> None:
        best = search.best()
        note = f"best {formats.three(best[0].values[0])}" if best and len(search.settings.objectives) == 1 else ""
        tell("trials", done, total, note)

    return search.run(objective, timeout, progress)


@contextmanager
def helpers(search: Search, count: int, storage: str, recipe: Recipe, timeout: float | None) -> Iterator[None]:
    """More workers on this machine, each with its share of the processor's cores.

    Where the time was over before the trials were, those that the workers had begun are waited for.
    """
    if not count:
        yield
        return
    share = max((os.cpu_count() or 1) // (count + 1), 1)
    torch.set_num_threads(share)
    command = [sys.executable, "-m", "coldpress", "worker", storage, "--study-name", search.study.study_name]
    command += [] if timeout is None else ["--timeout", str(timeout)]
    for field in PLACED:  # as they are called here; the study may have been started elsewhere
        value = getattr(recipe, field)
        command += [f"--{field.replace('_', '-')}", value] if value is not None else []
    environment = {**os.environ, "OMP_NUM_THREADS": str(share)}
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
        for process in started if search.slots.left() else ():
            process.wait()
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()


def ranked(task: Task, objective: Objective, best: list[FrozenTrial]) -> list[FrozenTrial]:
    """The best trials in the order that validation data puts them in: by the objective, of several by the fitness."""
    batches = validation_batches(task) if len(best) > 1 else []
    if not batches:
        return best
    names = objective.settings.objectives
    name = names[0] if len(names) == 1 else "fitness"
    sign = -1.0 if DIRECTIONS[name] == "maximize" else 1.0
    values = [0.0] * len(best)
    for batch in batches:
        judge = Objective(objective.space, objective.effects, objective.problem, batch, objective.settings)
        for place, trial in enumerate(best):
            values[place] += sign * len(batch[1]) * judge.value(trial.user_attrs["choices"])[name]
    found = [best[place] for place in sorted(range(len(best)), key=values.__getitem__)]
    samples = sum(len(labels) for _, labels in batches)
    out.print(f"Of the {len(best)} best, validation data ({samples} samples) chooses trial {found[0].number}")
    return found


def numbered(folder: Path, place: int) -> Path:
    """Where the plan of a place goes, 0 is the best: ``run``, ``run-2``, ``run-3``, ..."""
    return folder if place == 0 else folder.with_name(f"{folder.name}-{place + 1}")


def carry_out_all(
    task: Task, recipe: Recipe, plans: list[dict[str, str]], folder: Path | None, overwrite: bool
) -> None:
    """Carry plans out, best first, each into a folder of its own; one that changes nothing into none."""
    for place, chosen in enumerate(plans):
        if not chosen:
            out.print(
                f"Place {place + 1} goes to the network as it is: there is nothing to carry out, and no artifact is "
                "written. For a smaller network give a --budget, or more --n-trials",
                style="yellow",
            )
        elif folder is not None:
            given = recipe.changed({"choices": tuple(f"{unit}={label}" for unit, label in chosen.items())})
            carry_out(task, given, numbered(folder, place), overwrite)


def show(search: Search, best: list[FrozenTrial]) -> None:
    """How many trials there were, and the best of them."""
    states = [trial.state.name.lower() for trial in search.study.get_trials(deepcopy=False)]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    out.print(f"Study {search.study.study_name}, sampler {search.settings.sampler}: {counts}")
    if not best:
        out.print("No trial is complete within the limits: give more --n-trials, or a wider budget", style="yellow")
        return
    table = Table(title="Best trials (accuracy on samples of train, costs predicted)", title_style="dim")
    own = [name for name in search.settings.objectives if name in ("fitness", "kl")]
    for head in ("trial", *own, "accuracy", "latency", "size", "MACs"):
        table.add_column(head, justify="right")
    for trial in best:
        costs = trial.user_attrs["costs"]
        latency = formats.milliseconds(1e3 * costs["latency"]) if "latency" in costs else formats.DASH
        values = dict(zip(search.settings.objectives, trial.values))
        table.add_row(
            str(trial.number),
            *(formats.three(values[name]) for name in own),
            formats.percent(trial.user_attrs["accuracy"], 2),
            latency,
            formats.size(costs["size"]),
            formats.scaled(costs["macs"]),
        )
    out.print(table)


def check_log(path: Path) -> None:
    """Raise TaskError where the trials cannot be written to ``path``."""
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or path.is_dir():
        raise TaskError(f"--trials-out {path} cannot be written: give the path of a file in a folder that is there")


def write_log(search: Search, path: Path) -> None:
    """Every trial as a line of CSV, or with the ending .json as an entry of a list."""
    rows = []
    for trial in search.study.get_trials(deepcopy=False):
        row: dict[str, Any] = {"trial": trial.number, "state": trial.state.name.lower()}
        row |= dict(zip(search.settings.objectives, trial.values or ()))
        row |= {name: trial.user_attrs.get(name) for name in ("accuracy", "kl")}
        row |= trial.user_attrs.get("costs", {})
        row |= {"feasible": feasible(trial), "seconds": trial.duration.total_seconds() if trial.duration else None}
        row |= {"params": trial.params} | {name: trial.user_attrs.get(name) for name in (RETRY, ERROR)}
        rows.append(row)
    beside = path.with_name(path.name + ".partial")
    with beside.open("w", newline="") as file:
        if path.suffix == ".json":
            json.dump(rows, file, indent=1)
        else:
            heads = list(dict.fromkeys(head for row in rows for head in row))
            writer = csv.DictWriter(file, heads)
            writer.writeheader()
            writer.writerows({**row, "params": json.dumps(row["params"])} for row in rows)
    beside.replace(path)
