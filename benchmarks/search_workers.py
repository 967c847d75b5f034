"""How searches scale with worker processes: wall time, and whether each trial was done, once.

    python benchmarks/search_workers.py --out benchmarks/results/search_workers.json

`coldpress search` on the network that comes along, random plans, one thread a process, trials of a second or more. Time
runs from the moment when every worker has begun its first trial to the end of the last one, and is scaled to all
trials by how many were done in it: what workers do before their first trial (tracing the network, second moments) is
not counted, nor what it takes away from those at work. Beside it is the time from the start of the first trial on.
One worker of the last row is killed in mid-trial.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from coldpress.search.storage import RETRY, open_storage
from record import Record

CASES = ((1, False), (2, False), (4, False), (2, True))


def one(workers: int, killed: bool, trials: int, images: int) -> dict[str, Any]:
    """A search with so many processes; with ``killed`` one of them is killed when it has begun a trial."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "journal.log")
        command = [sys.executable, "-m", "coldpress", "search", "--model", "fashion_cnn", "--data", "fashion-mini"]
        command += ["--units", "width,depth", "--budget", "macs=50%", "--objectives", "kl", "--sampler", "random"]
        command += ["--images", str(images), "--rungs", "1", "--n-trials", str(trials), "--storage", place]
        search = subprocess.Popen(
            [*command, "--workers", str(workers)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if killed:
            kill_a_worker(place, search.pid)
        if search.wait() != 0:
            raise SystemExit(f"the search with {workers} workers failed")
        study = optuna.load_study(storage=open_storage(place), study_name="coldpress")
        found = study.get_trials()
    complete = [trial for trial in found if trial.state == TrialState.COMPLETE]
    starts, ends = ([getattr(t, name) for t in complete] for name in ("datetime_start", "datetime_complete"))
    retried = [trial for trial in found if RETRY in trial.user_attrs]
    # what a finished trial was of: itself, or the dead one that it repeats
    done = [trial.user_attrs.get(RETRY, trial.number) for trial in complete]
    return {
        "trials": trials,
        "complete": len(complete),
        "failed": sum(trial.state == TrialState.FAIL for trial in found),
        "retried": len(retried),
        "repeated": len(done) - len(set(done)),
        "processes": len({trial.user_attrs["worker"] for trial in complete}),
        "seconds": steady(complete, trials),
        "seconds_from_first": (max(ends) - min(starts)).total_seconds(),
        "trial_seconds": float(np.median([t.duration.total_seconds() for t in complete if t.duration])),
    }


def steady(complete: list[optuna.trial.FrozenTrial], trials: int) -> float:
    """Seconds that all trials take when all workers are at work: how fast they were from then on."""
    spans = [(t.datetime_start, t.datetime_complete) for t in complete if t.datetime_start and t.datetime_complete]
    begun = {t.user_attrs["worker"]: t.datetime_start for t in reversed(complete) if t.datetime_start}  # the first
    ready, end = max(begun.values()), max(end for _, end in spans)
    done = sum(max((end - max(start, ready)) / (end - start), 0.0) for start, end in spans)
    return (end - ready).total_seconds() * trials / done


def kill_a_worker(place: str, parent: int) -> None:
    """Kill a helper process once it works on a trial."""
    while True:
        time.sleep(0.5)
        try:
            running = optuna.load_study(storage=open_storage(place), study_name="coldpress").get_trials(
                states=(TrialState.RUNNING,)
            )
        except (KeyError, OSError):
            continue
        workers = {int(trial.user_attrs["worker"].split()[1]) for trial in running if "worker" in trial.user_attrs}
        others = workers - {parent}
        if others:
            os.kill(others.pop(), signal.SIGKILL)
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    args.model = args.data = args.weights = args.data_dir = None
    record = Record(args, "workers", "killed")
    for workers, killed in CASES:
        if not record.has(workers=workers, killed=killed):
            record.add(workers=workers, killed=killed, **one(workers, killed, args.trials, args.images))
    record.show(shown(record.rows))


def shown(rows: list[dict[str, Any]]) -> str:
    """One line a case."""
    alone = next(row["seconds"] for row in rows if row["workers"] == 1)
    lines = [
        "| workers | trials done | failed, retried | seconds | of one worker's | from first trial on | a trial, s |",
        "|---|" + "---|" * 6,
    ]
    for row in rows:
        name = f"{row['workers']}, one killed" if row["killed"] else str(row["workers"])
        done = f"{row['complete']} of {row['trials']}, {row['repeated']} repeated"
        share = f"{row['seconds'] / alone:.2f}"
        lines.append(
            f"| {name} | {done} | {row['failed']}, {row['retried']} | {row['seconds']:.0f} | {share} | "
            f"{row['seconds_from_first']:.0f} | {row['trial_seconds']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
