"""The sampler in studies: the same seed, restarts, workers, constraints, and whether it searches at all."""

import doctest
import os
import subprocess
import sys
import warnings

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

import coldpress.search.qiea
from coldpress.errors import SearchError
from coldpress.search import QIEASampler

optuna.logging.set_verbosity(optuna.logging.ERROR)
HARM = np.random.default_rng(7).exponential(1.0, (16, 4))


def mixed(trial):
    """Every kind of parameter, one of them conditional, one with a range that depends on another."""
    loss = sum(HARM[i][trial.suggest_categorical(f"unit{i}", [0, 1, 2, 3])] for i in range(4))
    rank = trial.suggest_int("rank", 1, 64, log=True)
    loss += abs(rank - 9) + trial.suggest_int("keep", 0, rank) / 10
    if trial.suggest_categorical("drop", [True, False]):
        loss += (trial.suggest_float("share", 0.0, 1.0) - 0.3) ** 2
    return loss + trial.suggest_float("step", 0.0, 1.0, step=0.25)


def run(n_trials, storage=None, seed=5, **arguments):
    study = optuna.create_study(
        study_name="one", storage=storage, sampler=QIEASampler(seed=seed, **arguments), load_if_exists=True
    )
    study.optimize(mixed, n_trials=n_trials)
    return [trial.params for trial in study.trials]


def test_the_same_seed_gives_the_same_trials_in_another_process(tmp_path):
    script = tmp_path / "search.py"
    script.write_text("import sys; sys.path.insert(0, sys.argv[1]); import test_qiea; print(test_qiea.run(25))")
    for salt in ("1", "2"):
        done = subprocess.run(
            [sys.executable, str(script), os.path.dirname(__file__)],
            env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip().splitlines()[-1] == str(run(25))
    assert run(25, seed=6) != run(25)


def test_two_processes_share_a_journal(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1]); import test_qiea as t\n"
        "t.run(10, t.JournalStorage(t.JournalFileBackend(sys.argv[2])))"
    )
    journal = str(tmp_path / "journal")
    command = [sys.executable, str(script), os.path.dirname(__file__), journal]
    workers = [subprocess.Popen(command, env={**os.environ, "PYTHONPATH": ":".join(sys.path)}) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    study = optuna.load_study(study_name="one", storage=JournalStorage(JournalFileBackend(journal)))
    assert [(trial.number, trial.state) for trial in study.trials] == [(n, TrialState.COMPLETE) for n in range(20)]


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_restart_goes_on_as_an_unstopped_run(kind, tmp_path):
    def storage():
        path = tmp_path / kind
        return f"sqlite:///{path}" if kind == "sqlite" else JournalStorage(JournalFileBackend(str(path)))

    run(7, storage())
    run(1, storage())
    assert run(4, storage()) == run(12)


def test_trials_that_finish_late_are_learned_in_their_place():
    def study():
        return optuna.create_study(sampler=QIEASampler(seed=1, population_size=3))

    def ask(study):
        trial = study.ask()
        return trial, sum(trial.suggest_categorical(f"unit{i}", [0, 1, 2, 3]) for i in range(8))

    late, late_value = ask(one := study())
    for _ in range(11):
        one.tell(*ask(one))
    one.tell(late, late_value)
    again = study()
    again.add_trials(one.trials)
    assert ask(again)[0].params == ask(one)[0].params


def test_one_sampler_serves_two_studies():
    sampler = QIEASampler(seed=2)
    studies = [optuna.create_study(sampler=sampler) for _ in range(2)]
    for _ in range(12):
        for study in studies:
            study.optimize(mixed, n_trials=1)
    assert [t.params for t in studies[0].trials] == [t.params for t in studies[1].trials]


def test_threads_share_a_sampler():
    study = optuna.create_study(sampler=QIEASampler(seed=0))
    study.optimize(mixed, n_trials=40, n_jobs=4)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 40


def test_failed_trials_are_as_if_they_had_not_been_and_pruned_ones_are_learned():
    def after(state):
        study = optuna.create_study(sampler=QIEASampler(seed=0, population_size=1))
        space = {f"unit{i}": optuna.distributions.CategoricalDistribution([0, 1]) for i in range(6)}
        study.add_trial(optuna.create_trial(params=dict.fromkeys(space, 0), distributions=space, value=0.0))
        for _ in range(12):
            trial = study.ask(space)
            study.tell(trial, state=state)
        last = study.ask(space)
        return np.mean(list(last.params.values())), study

    mean, study = after(TrialState.PRUNED)
    assert mean < 0.5
    seen = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(seen)) == len(seen)
    fresh = QIEASampler(seed=0, population_size=1)
    _, failed = after(TrialState.FAIL)
    alone = optuna.create_study(sampler=fresh)
    alone.add_trials([failed.trials[0], *[optuna.create_trial(state=TrialState.FAIL)] * 12])
    assert alone.ask(failed.trials[0].distributions).params == failed.trials[-1].params


@pytest.mark.parametrize("way", ["constraints_func", "set_constraint"])
def test_constraints_are_met(way):
    def loss(trial):
        kept = sum(trial.suggest_categorical(f"unit{i}", [0, 1]) for i in range(12))
        if way == "set_constraint":
            trial.set_constraint("bytes", 5.0 - kept)
        trial.set_user_attr("kept", kept)
        return kept

    arguments = {"constraints_func": lambda trial: [5.0 - trial.user_attrs["kept"]]} if "func" in way else {}
    study = optuna.create_study(sampler=QIEASampler(seed=1, **arguments))
    study.optimize(loss, n_trials=80)
    assert study.best_value == 5.0
    assert all(len(trial.constraints) == 1 for trial in study.trials)


def test_a_constraint_that_is_not_a_number_is_refused():
    study = optuna.create_study(sampler=QIEASampler(seed=1, constraints_func=lambda trial: [float("nan")]))
    with pytest.raises(SearchError, match="NaN"):
        study.optimize(mixed, n_trials=1)


def test_several_objectives_spread_over_the_front():
    def losses(trial):
        kept = np.array([trial.suggest_int(f"unit{i}", 0, 3) for i in range(10)])
        return float(((3 - kept) ** 2).sum()), float(kept.sum())

    def size(sampler):
        study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
        study.optimize(losses, n_trials=150)
        values = {tuple(trial.values) for trial in study.best_trials}
        return len(values), min(first + second for first, second in values)

    number, least = size(QIEASampler(seed=0))
    random_number, random_least = size(optuna.samplers.RandomSampler(seed=0))
    assert number >= random_number
    assert least <= random_least


def test_an_enqueued_plan_is_learned_from():
    study = optuna.create_study(sampler=QIEASampler(seed=0))
    best = {f"unit{i}": int(HARM[i].argmin()) for i in range(16)}
    study.enqueue_trial(best)
    study.optimize(
        lambda t: sum(HARM[i][t.suggest_categorical(f"unit{i}", [0, 1, 2, 3])] for i in range(16)), n_trials=60
    )
    near = [sum(trial.params[name] == value for name, value in best.items()) for trial in study.trials[-10:]]
    assert study.best_trial.number == 0
    assert np.mean(near) > 10


def test_random_search_is_beaten_on_every_seed():
    def loss(trial):
        return sum(HARM[i][trial.suggest_categorical(f"unit{i}", [0, 1, 2, 3])] for i in range(16))

    for seed in range(5):
        found = []
        for sampler in (QIEASampler(seed=seed), optuna.samplers.RandomSampler(seed=seed)):
            study = optuna.create_study(sampler=sampler)
            study.optimize(loss, n_trials=120)
            found.append(study.best_value - HARM.min(1).sum())
        assert found[0] < 0.5 * found[1]


@pytest.mark.parametrize(
    "wrong", [{"population_size": 0}, {"rotation": 0.0}, {"epsilon": 0.5}, {"migration_interval": 0}, {"seed": -1}]
)
def test_arguments_out_of_range_are_named(wrong):
    (name,) = wrong
    with pytest.raises(SearchError, match=rf"{name} of QIEASampler is .*must be"):
        QIEASampler(**wrong)


def test_the_example_in_the_docstring_runs():
    assert doctest.testmod(coldpress.search.qiea).failed == 0


def test_no_warning_reaches_the_user():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(5, constraints_func=lambda trial: [0.0])
