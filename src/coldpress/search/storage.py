"""Where a study lives, and how several workers share it: slots that are claimed once, and the dead found out."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from coldpress.errors import SearchError, StorageError, first_line
from coldpress.search.patience import Patient

logger = logging.getLogger("coldpress.search")

WORKER, BEAT, DEAD, RETRY, ERROR = "worker", "beat", "dead", "retry_of", "error"
BEAT_SECONDS = 10.0
GRACE_SECONDS = 60.0
"""A worker of another machine that gave no sign of life for so long is taken for dead."""
MOST_RETRIES = 3
"""How often a trial is tried again whose worker died: it may be what kills them."""


def open_storage(place: str) -> BaseStorage:
    """The storage at a URL of a relational database, or else in a journal file.

    Raises:
        SearchError: it cannot be opened, read or written.
    """
    try:
        if "://" in place:
            return RDBStorage(place)
        path = Path(place)
        if path.is_dir() or not path.parent.is_dir():
            raise SearchError(f"the storage {place} cannot be a file there: give the path of a file, or a database URL")
        if not all(os.access(one, os.W_OK) for one in (path, path.parent) if one.exists()):  # a lock lies beside it
            raise SearchError(
                f"the storage {place} is read-only: make it writable, and its folder, or choose another --storage"
            )
        return JournalStorage(JournalFileBackend(str(path)))
    except SearchError:
        raise
    except ValueError as error:
        raise SearchError(f"{place} is not a journal of Optuna: choose another --storage ({error})") from error
    except Exception as error:  # drivers of databases raise errors of their own
        raise _useless(place, error) from error


@contextmanager
def answering(place: str) -> Iterator[None]:
    """Raises SearchError where a storage was opened and does not answer: it is locked, or may not be written."""
    try:
        yield
    except StorageInternalError as error:
        raise _useless(place, error.__cause__ or error) from error


def _useless(place: str, error: BaseException) -> SearchError:
    return SearchError(
        f"the storage {place} cannot be used ({first_line(error)}): give the path of a journal file, or the URL of a "
        "database that is there, may be written, is not locked, and whose driver is installed, sqlite:///search.db say"
    )


def spent(trial: FrozenTrial) -> bool:
    """Whether a trial is over and not to be tried again."""
    return trial.state.is_finished() and DEAD not in trial.user_attrs


@dataclass
class Slots:
    """A study's trials as slots that any number of workers claim, each slot by one of them.

    Args:
        study: the study.
        storage: its storage.
        grace: seconds without a sign of life after which a worker elsewhere is taken for dead.
    """

    study: optuna.Study
    storage: Patient
    grace: float = GRACE_SECONDS
    _seen: dict[int, tuple[object, float]] = field(default_factory=dict)

    def fill(self, count: int) -> None:
        """Queue as many trials as are missing to ``count``, those that are over, running or queued counted."""
        missing = count - sum(spent(t) or not t.state.is_finished() for t in self._trials())
        for _ in range(missing):
            self.study.enqueue_trial({})

    def left(self) -> int:
        """Trials that are queued or running."""
        return sum(not trial.state.is_finished() for trial in self._trials())

    def done(self) -> int:
        """Trials that are over."""
        return sum(spent(trial) for trial in self._trials())

    def claim(self) -> Trial | None:
        """A queued trial that is from now on this worker's alone; None where there is none."""
        for waiting in self._trials((TrialState.WAITING,)):
            key = self._key(waiting)
            with suppress(UpdateFinishedTrialError):
                if self.storage.set_trial_state_values(key, TrialState.RUNNING):
                    self.storage.set_trial_user_attr(key, WORKER, identity(os.getpid()))
                    return Trial(self.study, key)
        return None

    def sweep(self) -> int:
        """End the trials of dead workers and queue them again, with what was sampled; how many there were.

        One that was tried again `MOST_RETRIES` times is given up, with a warning.
        """
        return sum(self._retried(trial) for trial in self._trials((TrialState.RUNNING,)) if self._is_dead(trial))

    def _retried(self, trial: FrozenTrial) -> bool:
        key, retries = self._key(trial), self._retries(trial)
        why = f"all {retries + 1} workers that tried it died, for want of memory perhaps"
        try:
            self.storage.set_trial_user_attr(key, *((DEAD, True) if retries < MOST_RETRIES else (ERROR, why)))
            self.storage.set_trial_state_values(key, TrialState.FAIL)
        except UpdateFinishedTrialError:  # another worker was first, or this one was only slow
            return False
        if retries >= MOST_RETRIES:
            logger.warning("trial %d is given up: %s", trial.number, why)
            return True
        self.study.enqueue_trial(trial.params, user_attrs={RETRY: trial.number})
        return True

    def _retries(self, trial: FrozenTrial) -> int:
        """How often a trial was tried before."""
        before = {other.number: other.user_attrs.get(RETRY) for other in self._trials()}
        count, number = 0, trial.user_attrs.get(RETRY)
        while number is not None:
            count, number = count + 1, before[number]
        return count

    def _is_dead(self, trial: FrozenTrial) -> bool:
        host, _, process = str(trial.user_attrs.get(WORKER, "")).partition(" ")
        if host == socket.gethostname() and process and identity(int(process.split()[0])) != f"{host} {process}":
            return True
        now, sign = time.monotonic(), trial.user_attrs.get(BEAT)
        last, since = self._seen.setdefault(trial.number, (sign, now))
        if last != sign:
            self._seen[trial.number] = (sign, now)
        silent = now - max(since, self.storage.trouble)  # where the storage was locked, signs could not be given
        return last == sign and silent > self.grace

    def _trials(self, states: tuple[TrialState, ...] | None = None) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=states)

    def _key(self, trial: FrozenTrial) -> int:
        study = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study, trial.number)


def identity(process: int) -> str:
    """Names a process on this machine, and no later one of the same number: host, number, moment of its start."""
    stat = Path(f"/proc/{process}/stat")
    try:
        started = stat.read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        started = "running" if not stat.parent.parent.joinpath("self").exists() and _answers(process) else "gone"
    return f"{socket.gethostname()} {process} {started}"


def _answers(process: int) -> bool:
    """Whether a process runs, on systems without /proc."""
    try:
        os.kill(process, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


@contextmanager
def beating(storage: Patient, trial: int, seconds: float = BEAT_SECONDS) -> Iterator[None]:
    """Give signs of life of a running trial (its storage id) from a thread, which outlives a storage's silence."""
    over = threading.Event()

    def beat() -> None:
        count = 0
        while not over.wait(seconds):
            count += 1
            with suppress(UpdateFinishedTrialError, StorageError, OSError):
                storage.set_trial_user_attr(trial, BEAT, count)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
