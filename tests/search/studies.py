"""Small studies without a network, and workers for them in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna

from coldpress.problem import Energy, Problem
from coldpress.recipe import Recipe
from coldpress.search.objective import SearchSettings
from coldpress.search.study import Search

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
import studies as t
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
