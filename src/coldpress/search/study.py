"""A search over plans as an Optuna study that any number of workers share, and that can be stopped and taken up."""

from __future__ import annotations

import base64
import json
import logging
import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from coldpress import __version__
from coldpress.errors import SearchError, StorageError
from coldpress.problem import Problem
from coldpress.recipe import Recipe
from coldpress.search.objective import Objective, SearchSettings
from coldpress.search.patience import Patient
from coldpress.search.prepare import DEPENDED
from coldpress.search.samplers import sampler
from coldpress.search.storage import ERROR, Slots, answering, beating, open_storage
from coldpress.zoo.places import full_path, placed_data, placed_model

logger = logging.getLogger("coldpress.search")

SETUP = "coldpress"
SQLITE = "sqlite:///"
PLACED = {"model": placed_model, "weights": full_path, "data": placed_data, "data_dir": full_path}
"""Settings that name files."""
WORDS = ("pretrained", "random")
ELSEWHERE = "where its files lie elsewhere on this machine, give --model, --weights, --data or --data-dir"
MOST_FAILURES = 3
"""Trials of one worker that may fail one after the other before it gives up."""
WAIT_SECONDS = 0.5

Progress = Callable[[int, int, optuna.Study], None]


class Search:
    """A study of plans of one task, in a storage.

    Args:
        study, slots: the Optuna study and its trials.
        setup: what the study was made for: recipe, settings, version, key, and the costs of all plans.
        worker: tells workers apart that draw by the same seed; 0 for the one that starts the search.
    """

    def __init__(self, study: optuna.Study, slots: Slots, setup: dict[str, Any], worker: int = 0) -> None:
        self.study, self.slots, self.setup = study, slots, setup
        self.recipe = Recipe().changed(setup["recipe"])
        self.settings = SearchSettings(**setup["settings"])
        self.problem = Problem.from_json(zlib.decompress(base64.b64decode(setup["problem"])).decode())
        # a study that is taken up draws on, not once more what it drew
        turn = len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))
        study.sampler = sampler(self.settings.sampler, self.settings.seed, worker + turn)
        if self.settings.pruned:
            first = -(-self.settings.images // self.settings.rungs)
            study.pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=3)

    @classmethod
    def create(
        cls, place: str, name: str, recipe: Recipe, settings: SearchSettings, problem: Problem, key: str
    ) -> Search:
        """Start a study, or take up the one of that name and setup.

        Raises:
            SearchError: the study there is of something else.
        """
        storage = open_storage(place)
        with answering(place):
            optuna.create_study(storage=storage, study_name=name, directions=settings.directions, load_if_exists=True)
        study, patient = _patiently(storage, place, name)
        setup = {
            "version": __version__,
            "key": key,
            "recipe": _plain(recipe),
            "settings": json.loads(json.dumps(asdict(settings))),
            "problem": base64.b64encode(zlib.compress(problem.to_json().encode(), 9)).decode(),
        }
        known = study.user_attrs.get(SETUP)
        if known is None:
            if study.get_trials(deepcopy=False):
                raise SearchError(f"the study {name!r} in {place} is not coldpress': choose another --study-name")
            study.set_user_attr(SETUP, setup)
        else:
            _check(place, name, known, setup)
        return cls(study, Slots(study, patient), known or setup)

    @classmethod
    def join(cls, place: str, name: str, worker: int | None = None) -> Search:
        """Take part in a study that was started elsewhere.

        A worker that is given no number draws one: processes of two containers may have the same number and start.

        Raises:
            SearchError: there is no such study, or it was made by another version.
        """
        file = place.removeprefix(SQLITE).removeprefix("file:").partition("?")[0] if place.startswith(SQLITE) else place
        if "://" not in file and not Path(file).exists():
            raise SearchError(f"there is no storage {place}: start it with coldpress search")
        storage = open_storage(place)
        try:
            with answering(place):
                optuna.load_study(storage=storage, study_name=name)
        except KeyError as error:
            there = ", ".join(optuna.get_all_study_names(storage)) or "none"
            raise SearchError(f"no study is called {name!r} in {place}; there are: {there}") from error
        study, patient = _patiently(storage, place, name)
        setup = study.user_attrs.get(SETUP)
        if setup is None:
            raise SearchError(f"the study {name!r} in {place} is not coldpress': choose another --study-name")
        if setup["version"] != __version__:
            raise SearchError(f"the study was started by coldpress {setup['version']}, this is {__version__}")
        return cls(study, Slots(study, patient), setup, secrets.randbits(32) if worker is None else worker)

    def check_key(self, key: str) -> None:
        """Raise SearchError when the model or the data here are not those of the study."""
        if key != self.setup["key"]:
            raise SearchError(
                f"the model's weights or the data here are not those that this study was started with; {ELSEWHERE}"
            )

    def run(self, objective: Objective, timeout: float | None = None, progress: Progress | None = None) -> int:
        """Work off trials until none is queued or running anywhere; how many this worker finished.

        Args:
            objective: what a trial is worth.
            timeout: seconds after which no new trial is begun.
            progress: called with (trials over, trials in all, the study).

        Raises:
            SearchError: several trials failed one after the other.
            StorageError: the storage does not answer any more; finished trials are in it.
        """
        start, finished, failures = time.monotonic(), 0, 0
        while timeout is None or time.monotonic() - start < timeout:
            self.slots.sweep()
            trial = self.slots.claim()
            left = self.slots.left()
            if progress:
                progress(self.slots.done(), self.slots.done() + left, self.study)
            if trial is None:
                if not left:
                    break
                time.sleep(WAIT_SECONDS)
                continue
            error = self._try(objective, trial)
            finished, failures = finished + (error is None), 0 if error is None else failures + 1
            if failures >= MOST_FAILURES:
                raise SearchError(f"{failures} trials failed one after the other; the last: {error}") from error
        return finished

    def _try(self, objective: Objective, trial: optuna.Trial) -> Exception | None:
        """Carry out one trial; the error where it failed."""
        try:
            with beating(self.slots.storage, trial._trial_id):
                try:
                    values, state = objective(trial), TrialState.COMPLETE
                except optuna.TrialPruned:
                    values, state = None, TrialState.PRUNED
                except StorageError:
                    raise
                except Exception as error:
                    logger.warning("trial %d failed: %s", trial.number, error)
                    trial.set_user_attr(ERROR, str(error)[:500])
                    self.study.tell(trial, state=TrialState.FAIL)
                    return error
            self.study.tell(trial, values, state)
        except (UpdateFinishedTrialError, ValueError):  # taken for dead meanwhile: another worker does it again
            logger.warning("trial %d had been given to another worker", trial.number)
        return None

    def enqueue(self, params: dict[str, Any]) -> None:
        """Queue a trial with given parameters, unless one has them."""
        self.study.enqueue_trial(params, skip_if_exists=True)

    def best(self, count: int = 1) -> list[FrozenTrial]:
        """The best trials within the limits, no two of the same plan: by value, or of several objectives the front.

        A Pareto front is returned whole, in the order of its trials.
        """
        several = len(self.settings.objectives) > 1
        if several:
            trials = sorted(self.study.best_trials, key=lambda trial: trial.number)
        else:
            complete = [t for t in self.study.get_trials(states=(TrialState.COMPLETE,)) if feasible(t)]
            sign = -1.0 if self.settings.directions[0] == "maximize" else 1.0
            trials = sorted(complete, key=lambda trial: (sign * (trial.value or 0.0), trial.number))
        found: list[FrozenTrial] = []
        for trial in trials:
            if all(trial.user_attrs["choices"] != other.user_attrs["choices"] for other in found):
                found.append(trial)
        return found if several else found[:count]


def feasible(trial: FrozenTrial) -> bool:
    """Whether a trial is within all limits."""
    return all(value <= 0.0 for value in trial.constraints.values())


def _patiently(storage: BaseStorage, place: str, name: str) -> tuple[optuna.Study, Patient]:
    """A study that outlasts moments in which its storage does not answer."""
    patient = Patient(storage, place)
    return optuna.load_study(storage=cast(BaseStorage, patient), study_name=name), patient


def _plain(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON-ready data, files by their full paths."""
    data: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(recipe).items()}
    for name, placed in PLACED.items():
        if data[name] is not None and data[name] not in WORDS:
            data[name] = placed(data[name])
    return data


def _check(place: str, name: str, known: dict[str, Any], given: dict[str, Any]) -> None:
    """Raise SearchError, saying what differs, unless a study was started with what is given now."""
    before = {**known["settings"], **{field: known["recipe"].get(field) for field in DEPENDED}}
    now = {**given["settings"], **{field: given["recipe"][field] for field in DEPENDED}}
    other = [
        f"{field} {before.get(field)!r}, not {value!r}" for field, value in now.items() if before.get(field) != value
    ]
    if known["version"] != given["version"]:
        other = [f"version {known['version']}, not {given['version']}"]
    elif known["key"] != given["key"] and not other:
        names = [f"{name} {known['recipe'].get(name)!r}, not {given['recipe'][name]!r}" for name in ("model", "data")]
        other = [f"another model or other data ({'; '.join(names)})"]
    if other:
        raise SearchError(
            f"the study {name!r} in {place} was started with {'; '.join(other)}: repeat its settings, or choose "
            "another --study-name"
        )
