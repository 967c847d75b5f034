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

TRIES = 3
"""Trials at most, as a multiple of those wanted, where some cannot be trained."""


def searched(
    path: Path,
    name: str,
    trials: int,
    seed: int,
    curve: Callable[[Mapping[str, Any]], list[float | None]],
    tell: Callable[[int, int], None],
) -> dict[str, Any]:
    """The best settings of a study that goes on where it stopped: "sparsity", "rank", "kernel", "batch_size", "lr".

    Args:
        path: the journal file.
        name: of the study.
        trials: that are to be completed; one that was stopped, or could not be trained, does not count.
        seed: of the sampler; a study that was stopped draws what it would have drawn.
        curve: validation scores by epoch, of a network that was made and trained so.
        tell: called with (trial, in all).

    Raises:
        TaskError: no trial could be trained.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)

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
