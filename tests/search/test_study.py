"""A shared study: every slot once, the dead retried, stopped and taken up, and what is not the same refused."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from coldpress.errors import SearchError, StorageError
from coldpress.problem import Energy, Problem
from coldpress.recipe import Recipe
from coldpress.search import patience
from coldpress.search import storage as storages
from coldpress.search.objective import SearchSettings
from coldpress.search.samplers import SAMPLERS, sampler
from coldpress.search.study import Search

optuna.logging.set_verbosity(optuna.logging.ERROR)
PROBLEM = Problem.from_arrays([2, 2], Energy(np.zeros((4, 4)), np.zeros(4)))
QUICK = SearchSettings(sampler="random", rungs=1, seed=3)


def start(place: Path, trials: int, **changes: object) -> Search:
    settings = SearchSettings(**{"sampler": "random", "rungs": 1, "seed": 3, **changes})  # type: ignore[arg-type]
    search = Search.create(str(place), "one", Recipe(), settings, PROBLEM, "key")
    search.slots.fill(trials)
    return search


def loss(trial: optuna.Trial) -> tuple[float, ...]:
    trial.set_user_attr("choices", {"u0": str(trial.number)})
    return (sum(trial.suggest_int(f"u{i}", 0, 7) for i in range(4)) / 1.0,)


WORKER = """
import sys, time
sys.path.insert(0, sys.argv[2])
import test_study as t
from coldpress.search.study import Search
def slow(trial):
    found = t.loss(trial)
    print(trial.number, flush=True)
    time.sleep(float(sys.argv[3]))
    return found
Search.join(sys.argv[1], "one").run(slow)
"""


def worker(place: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(place), str(Path(__file__).parent), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_two_workers_share_the_trials_and_the_trial_of_a_killed_one_is_done_again(tmp_path: Path) -> None:
    place = tmp_path / "journal.log"
    search = start(place, 30)
    dying, living = worker(place, 3600.0), worker(place, 0.01)
    assert dying.stdout is not None
    lost = int(dying.stdout.readline())
    dying.send_signal(signal.SIGKILL)
    dying.wait()
    assert living.wait(timeout=120) == 0
    trials = search.study.get_trials()
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert [trial.number for trial in failed] == [lost]
    assert sum(trial.state == TrialState.COMPLETE for trial in trials) == 30 == search.slots.done()
    again = [trial for trial in trials if trial.user_attrs.get(storages.RETRY) == lost]
    assert len(again) == 1
    assert again[0].params == failed[0].params


def test_a_slot_is_claimed_once(tmp_path: Path) -> None:
    search, other = start(tmp_path / "j.log", 3), Search.join(str(tmp_path / "j.log"), "one", 1)
    found = [side.slots.claim() for side in (search, other, search, other)]
    assert [trial.number for trial in found if trial] == [0, 1, 2]
    assert found[3] is None
    assert search.slots.left() == 3
    assert search.slots.done() == 0


def test_a_worker_elsewhere_that_gives_no_sign_of_life_is_taken_for_dead(tmp_path: Path) -> None:
    search = start(tmp_path / "j.log", 1)
    trial = search.slots.claim()
    assert trial is not None
    trial.set_user_attr(storages.WORKER, "another-machine 1 1")
    search.slots.grace = 0.2
    with storages.beating(search.slots.storage, 0, 0.02):
        for _ in range(4):
            assert search.slots.sweep() == 0
            time.sleep(0.1)
    assert search.slots.sweep() == 0
    time.sleep(0.3)
    assert search.slots.sweep() == 1
    assert search.slots.left() == 1
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        search.slots.storage.set_trial_state_values(0, TrialState.COMPLETE, [0.0])


def test_a_study_is_taken_up_until_all_of_its_trials_are_done(tmp_path: Path) -> None:
    search = start(tmp_path / "j.log", 4)
    assert search.run(loss) == 4
    again = start(tmp_path / "j.log", 10)
    assert again.run(loss) == 6
    first = [trial.params for trial in again.study.trials[:4]]
    assert all(trial.params not in first for trial in again.study.trials[4:])
    assert again.best()[0].value == min(trial.value for trial in again.study.trials)


def test_a_trial_that_fails_is_named_and_several_in_a_row_end_the_search(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search = start(tmp_path / "j.log", 9)

    def fails(trial: optuna.Trial) -> tuple[float, ...]:
        if trial.number % 4 or trial.number > 4:
            raise RuntimeError("out of tensors")
        return (1.0,)

    with pytest.raises(SearchError, match=r"3 trials failed .* out of tensors"):
        search.run(fails)
    assert search.study.trials[1].user_attrs["error"] == "out of tensors"


def test_a_limit_decides_before_the_value(tmp_path: Path) -> None:
    search = start(tmp_path / "j.log", 6)

    def tight(trial: optuna.Trial) -> tuple[float, ...]:
        trial.set_constraint("size", 1.0 if trial.number < 5 else -1.0)
        trial.set_user_attr("choices", {})
        return (float(trial.number),)

    search.run(tight)
    assert [trial.number for trial in search.best(3)] == [5]


@pytest.mark.parametrize(
    ("change", "says"),
    [({"images": 64}, "images 512, not 64"), ({"sampler": "tpe"}, "sampler 'random', not 'tpe'")],
)
def test_other_settings_are_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    start(tmp_path / "j.log", 1)
    with pytest.raises(SearchError, match=says):
        start(tmp_path / "j.log", 1, **change)


def test_other_studies_models_versions_and_storages_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "j.log"
    search = start(place, 1)
    with pytest.raises(SearchError, match="another model"):
        Search.create(str(place), "one", Recipe(), QUICK, PROBLEM, "other key")
    with pytest.raises(SearchError, match="model's weights or the data"):
        search.check_key("other key")
    with pytest.raises(SearchError, match=r"no study is called 'two' in .*there are: one"):
        Search.join(str(place), "two")
    with pytest.raises(SearchError, match="there is no storage"):
        Search.join(str(tmp_path / "none.log"), "one")
    monkeypatch.setattr("coldpress.search.study.__version__", "99")
    with pytest.raises(SearchError, match=r"started by coldpress .*, this is 99"):
        Search.join(str(place), "one")
    (tmp_path / "text.log").write_text("not a journal\nat all\n")
    with pytest.raises(SearchError, match="not a journal of Optuna"):
        Search.create(str(tmp_path / "text.log"), "one", Recipe(), QUICK, PROBLEM, "key")
    with pytest.raises(SearchError, match=r"cannot be used .*whose driver is installed"):
        Search.create("nosuch://x", "one", Recipe(), QUICK, PROBLEM, "key")
    with pytest.raises(SearchError, match="path of a file"):
        Search.create(str(tmp_path), "one", Recipe(), QUICK, PROBLEM, "key")
    plain = optuna.create_study(storage=f"sqlite:///{tmp_path}/s.db", study_name="one")
    plain.optimize(lambda trial: trial.suggest_float("x", 0, 1), 1)
    with pytest.raises(SearchError, match="is not coldpress'"):
        Search.create(f"sqlite:///{tmp_path}/s.db", "one", Recipe(), QUICK, PROBLEM, "key")


def test_a_database_that_is_locked_or_not_there_is_told(tmp_path: Path) -> None:
    place = f"sqlite:///{tmp_path}/s.db?timeout=0.1"
    with pytest.raises(SearchError, match="there is no storage"):
        Search.join(place, "one")
    assert not (tmp_path / "s.db").exists()
    Search.create(place, "one", Recipe(), QUICK, PROBLEM, "key")
    other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for use in (
        lambda: Search.create(place, "two", Recipe(), QUICK, PROBLEM, "key"),
        lambda: Search.join(place, "one"),
    ):
        with pytest.raises(SearchError, match=r"database is locked.*is not locked"):
            use()
    other.close()


def lock(place: Path) -> sqlite3.Connection:
    other = sqlite3.connect(place, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return other


def test_a_database_that_is_locked_for_a_moment_ends_neither_trial_nor_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search.create(f"sqlite:///{tmp_path}/s.db?timeout=0.05", "one", Recipe(), QUICK, PROBLEM, "key")
    search.slots.fill(3)
    others: list[sqlite3.Connection] = []
    waited: list[float] = []

    def waiting(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            others[-1].close()

    def locked(trial: optuna.Trial) -> tuple[float, ...]:
        if not others:
            others.append(lock(tmp_path / "s.db"))
        return loss(trial)

    monkeypatch.setattr(patience, "sleep", waiting)
    assert search.run(locked) == 3
    assert waited == [0.5, 1.0]
    waited.clear()
    search.slots.fill(4)
    trial = search.slots.claim()
    assert trial is not None
    others.append(lock(tmp_path / "s.db"))
    with storages.beating(search.slots.storage, trial._trial_id, 0.01):
        deadline = time.monotonic() + 60.0
        while len(waited) < 2 or storages.BEAT not in search.study.get_trials()[3].user_attrs:
            assert time.monotonic() < deadline


def test_a_database_that_stays_locked_ends_the_search_which_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"sqlite:///{tmp_path}/s.db?timeout=0.01"
    search = Search.create(place, "one", Recipe(), QUICK, PROBLEM, "key")
    search.slots.fill(3)
    others: list[sqlite3.Connection] = []

    def locked(trial: optuna.Trial) -> tuple[float, ...]:
        if trial.number == 1:
            others.append(lock(tmp_path / "s.db"))
        return loss(trial)

    monkeypatch.setattr(patience, "sleep", lambda _: None)
    with pytest.raises(StorageError, match=r"does not answer any more \(.*locked.*finished trials are kept.*same comm"):
        search.run(locked)
    others[0].close()
    again = Search.join(place, "one")
    again.slots.grace = 0.0  # the worker of the trial that was cut short is this process
    assert again.run(loss) == 2
    assert again.slots.done() == 3


def test_where_signs_of_life_could_not_be_given_a_worker_is_not_taken_for_dead(tmp_path: Path) -> None:
    search = start(tmp_path / "j.log", 1)
    trial = search.slots.claim()
    assert trial is not None
    trial.set_user_attr(storages.WORKER, "another-machine 1 1")
    search.slots.grace = 0.0
    search.slots.storage.trouble = time.monotonic() + 3600.0
    assert [search.slots.sweep(), search.slots.sweep()] == [0, 0]
    search.slots.storage.trouble = 0.0
    assert search.slots.sweep() == 1


def test_a_trial_that_kills_every_worker_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    search = start(tmp_path / "j.log", 1)
    for _ in range(1 + storages.MOST_RETRIES):
        trial = search.slots.claim()
        assert trial is not None
        trial.set_user_attr(storages.WORKER, f"{socket.gethostname()} {2**22 + 1} 1")
        assert search.slots.sweep() == 1
    assert (search.slots.left(), search.slots.done()) == (0, 1)
    assert "trial 3 is given up: all 4 workers that tried it died" in caplog.text
    search.slots.fill(1)
    assert search.run(loss) == 0
    assert search.study.trials[-1].user_attrs["error"].startswith("all 4 workers")


def test_a_database_works_as_a_journal_does(tmp_path: Path) -> None:
    search = Search.create(f"sqlite:///{tmp_path}/s.db", "one", Recipe(), QUICK, PROBLEM, "key")
    search.slots.fill(3)
    assert Search.join(f"sqlite:///{tmp_path}/s.db", "one").run(loss) == 3


@pytest.mark.parametrize("name", [*SAMPLERS, "optuna.samplers.QMCSampler"])
def test_samplers_by_name(name: str, tmp_path: Path) -> None:
    if name in ("cmaes", "gp"):
        pytest.importorskip("cmaes" if name == "cmaes" else "torch")
    study = optuna.create_study(sampler=sampler(name, 1))
    if name == "legacy":
        study.optimize(lambda trial: trial.suggest_categorical("a", [0, 1]), 3)
    else:
        study.optimize(lambda trial: loss(trial)[0], 3)
    assert len(study.trials) == 3


@pytest.mark.parametrize("name", ["nosuch", "optuna.samplers.Nosuch", "no.such.Thing", "pathlib.Path", "os.sep"])
def test_what_is_no_sampler_is_refused(name: str) -> None:
    with pytest.raises(SearchError, match=r"no sampler|no Optuna sampler|not a class"):
        sampler(name, 0)


def test_workers_do_not_draw_the_same() -> None:
    drawn = []
    for number in (0, 1):
        study = optuna.create_study(sampler=sampler("random", 0, number))
        study.optimize(lambda trial: loss(trial)[0], 3)
        drawn.append([trial.params for trial in study.trials])
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    "change",
    [
        {"objectives": ()},
        {"objectives": ("speed",)},
        {"weights": (0, 0, 0)},
        {"norms": (0, 1)},
        {"images": 1},
        {"rungs": 0},
        {"options": 1},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(SearchError, match=next(iter(change))):
        SearchSettings(**change)  # type: ignore[arg-type]
