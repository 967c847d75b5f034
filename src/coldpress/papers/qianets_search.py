"""The search of QIANets: an Optuna study of sparsity, rank, attention's kernel, batch size and learning rate.

Optuna's default sampler draws its first ten trials at random: the authors' ten are a random search, and so are fewer.
The range of the sparsity is the same whether it is read as the share that goes or as the share kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna

from coldpress.errors import TaskError
from coldpress.papers.qianets_table import KERNELS

KEY = "coldpress"
"""The study's attribute that says what it was made for."""
TRIES = 3
"""Trials at most, as a multiple of those wanted, where some cannot be trained."""


def searched(
    path: Path,
    name: str,
    trials: int,
    seed: int,
    key: str,
    curve: Callable[[Mapping[str, Any]], list[float | None]],
    tell: Callable[[int, int], None],
) -> dict[str, Any]:
    """The best settings of a study that goes on where it stopped: "sparsity", "rank", "kernel", "batch_size", "lr".

    Args:
        path: the journal file.
        name: of the study.
        trials: that are to be completed; one that was stopped, or could not be trained, does not count.
        seed: of the sampler; a study that was stopped draws what it would have drawn.
        key: names what trials depend on besides: the baseline's weights, its data, and how they are trained.
        curve: validation scores by epoch, of a network that was made and trained so.
        tell: called with (trial, in all).

    Raises:
        TaskError: no trial could be trained, or the study there is of another key or seed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
    _check(study, path, f"{key}, seed {seed}")

    def objective(trial: optuna.Trial) -> float:
        asked = {
            "sparsity": trial.suggest_float("sparsity", 0.1, 0.9),
            "rank": trial.suggest_int("rank", 5, 50),
            "kernel": trial.suggest_categorical("kernel", KERNELS),
            "batch_size": trial.suggest_categorical("batch_size", (32, 64, 128)),
            "lr": trial.suggest_float("lr", 1e-4, 1e-2, log=True),
        }
        try:
            found = curve(asked)
        except TaskError as error:
            trial.set_user_attr("error", str(error))
            raise optuna.TrialPruned from error
        trial.set_user_attr("curve", found)
        return max(score or 0.0 for score in found)

    def count(state: optuna.trial.TrialState) -> int:
        return len(study.get_trials(deepcopy=False, states=[state]))

    states = optuna.trial.TrialState
    while (done := count(states.COMPLETE)) < trials and (failed := count(states.PRUNED)) < TRIES * trials:
        study.sampler = optuna.samplers.TPESampler(seed=1000 * seed + done + failed)  # those stopped are not counted
        study.optimize(objective, n_trials=1)
        tell(count(states.COMPLETE), trials)
    if not done:
        last = study.trials[-1].user_attrs.get("error", "")
        raise TaskError(f"none of the {failed} trials of {name} could be trained: {last}")
    return dict(study.best_trial.params)


def _check(study: optuna.Study, path: Path, key: str) -> None:
    """Note in a new study what it is made for. Raises TaskError where a study was made for something else."""
    known = study.user_attrs.get(KEY)
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(KEY, key)
    elif known != key:
        raise TaskError(
            f"the study {study.study_name!r} in {path} is of another baseline, seed, data or training: choose another "
            "--out, or remove that file"
        )
