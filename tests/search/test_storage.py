"""A storage that workers share: every slot once, the dead retried, what is locked or may not be written told."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from studies import PROBLEM, QUICK, loss, start, worker

from coldpress.errors import SearchError, StorageError
from coldpress.recipe import Recipe
from coldpress.search import patience
from coldpress.search import storage as storages
from coldpress.search.study import Search

optuna.logging.set_verbosity(optuna.logging.ERROR)


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


def test_two_workers_killed_in_mid_trial_lose_no_finished_trial_and_theirs_are_done_again(tmp_path: Path) -> None:
    place = tmp_path / "journal.log"
    search = start(place, 8)
    for _ in range(4):
        trial = search.slots.claim()
        assert trial is not None
        search.study.tell(trial, loss(trial))
    before = [(t.number, t.params, t.values) for t in search.study.get_trials()[:4]]
    dying = [worker(place, 3600.0) for _ in range(2)]
    lost = {int(process.stdout.readline()) for process in dying if process.stdout}
    for process in dying:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(lost) == 2
    assert search.run(loss) == 4
    trials = search.study.get_trials()
    assert [(t.number, t.params, t.values) for t in trials[:4]] == before
    assert {t.number for t in trials if t.state == TrialState.FAIL} == lost
    again = {t.user_attrs[storages.RETRY]: t.params for t in trials if storages.RETRY in t.user_attrs}
    assert again == {number: trials[number].params for number in lost}
    assert search.slots.done() == 8 == sum(t.state == TrialState.COMPLETE for t in trials)


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


def test_a_database_that_may_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, closed = f"sqlite:///{tmp_path}/s.db", f"sqlite:///file:{tmp_path}/s.db?mode=ro&uri=true"
    Search.create(place, "one", Recipe(), QUICK, PROBLEM, "key").slots.fill(1)
    with pytest.raises(SearchError, match=r"cannot be used .*readonly database.*may be written"):
        Search.create(closed, "two", Recipe(), QUICK, PROBLEM, "key")
    monkeypatch.setattr(patience, "sleep", lambda _: None)
    with pytest.raises(StorageError, match=r"readonly database.*may be written"):
        Search.join(closed, "one").run(loss)
    assert Search.join(place, "one").run(loss) == 1


@pytest.mark.parametrize("closed", ["j.log", "."])
def test_a_journal_that_may_not_be_written_is_told(tmp_path: Path, closed: str) -> None:
    place = tmp_path / "j.log"
    start(place, 1)
    before = (tmp_path / closed).stat().st_mode
    (tmp_path / closed).chmod(0o555)
    try:
        if os.access(tmp_path / closed, os.W_OK):
            pytest.skip("this user may write whatever its mode says")
        for use in (lambda: start(place, 1), lambda: Search.join(str(place), "one")):
            with pytest.raises(SearchError, match="is read-only: make it writable"):
                use()
    finally:
        (tmp_path / closed).chmod(before)
