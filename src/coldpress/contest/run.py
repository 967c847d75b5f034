"""The runs of a contest: independent cells, on any executor, each kept in a file as soon as it is done."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from coldpress.contest.attempt import spread
from coldpress.contest.contestants import CONTESTANTS, contestant
from coldpress.errors import ColdpressError, PlanError, TaskError
from coldpress.executors import THREADS
from coldpress.instances import Instance, Stored, family
from coldpress.problem import Problem

logger = logging.getLogger("coldpress.contest")

AHEAD = 64
"""Cells handed to an executor at once: what a stopped contest drops."""
Facts = dict[str, Any]


@dataclass(frozen=True, order=True)
class Cell:
    """One run: an instance by family and number, a contestant, a seed, and its seconds."""

    family: str
    instance: int
    solver: str
    seed: int
    seconds: float


def cells(
    families: Sequence[str], solvers: Sequence[str] | None, instances: int, seeds: int, seconds: float
) -> list[Cell]:
    """All runs of a contest, instance by instance; without ``solvers`` by all that take the instances.

    Raises:
        PlanError: a name is unknown, a number is not above 0, or no solver given takes any of the instances.
    """
    for name, value in (("instances", instances), ("seeds", seeds), ("seconds", seconds)):
        if not value > 0:
            raise PlanError(f"{name} is {value:g}; give more than 0")
    names = [contestant(name).name for name in solvers or CONTESTANTS]
    known = [family(name) for name in families]
    found = [
        Cell(one.name, number, solver, seed, seconds)
        for one in known
        for number in range(1 if isinstance(one, Stored) else instances)
        for solver in names
        if contestant(solver).takes(instance_of(one.name, number))
        for seed in range(seeds)
    ]
    if not found:
        raise PlanError(f"none of {', '.join(names)} takes instances of {', '.join(families)}")
    return found


@functools.lru_cache(maxsize=2)
def instance_of(name: str, number: int) -> Instance:
    """An instance, made once for the runs that follow each other."""
    return family(name).make(number)


def play(cell: Cell) -> Facts:
    """Carry a run out, on one thread: JSON-ready facts. What a contestant cannot take is told in ``refused``."""
    torch.set_num_threads(1)
    instance = instance_of(cell.family, cell.instance)
    try:
        attempt = contestant(cell.solver).play(instance, cell.seed, cell.seconds)
    except (ColdpressError, MemoryError) as error:
        return asdict(cell) | {"refused": str(error) or "out of memory"}
    best = attempt.best
    if best is not None:
        shown: Any = best.tolist() if isinstance(instance, Problem) else "".join(map(str, best))
    return asdict(cell) | {
        "energy": attempt.energy if attempt.trace else None,
        "bound": attempt.bound,
        "took": round(attempt.seconds, 4),
        "trace": [[round(seconds, 6), energy] for seconds, energy in attempt.trace],
        "evaluations": attempt.evaluations,
        "best": None if best is None else shown,
        "energies": attempt.energies,
        **spread(attempt.states),
        "more": attempt.more,
        "threads": os.environ.get(THREADS[0], "not set"),
    }


def run(todo: Sequence[Cell], path: Path, executor: Executor, tell: Callable[[int, int], None]) -> list[Facts]:
    """Carry out the cells that ``path`` does not hold yet; the facts of all, in the order of ``todo``.

    Args:
        todo: the runs.
        path: lines of JSON, one a run; a line that was cut short is run again.
        executor: where they run.
        tell: called with (runs done, runs in all).

    Raises:
        OSError: the file cannot be written.
        TaskError: a process of the executor died.
    """
    done = read(path)
    missing = [cell for cell in todo if cell not in done]
    logger.info("%d of %d runs are there already", len(todo) - len(missing), len(todo))
    waiting: dict[Future[Facts], Cell] = {}
    tell(len(todo) - len(missing), len(todo))
    left = iter(missing)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        if done:
            file.write("\n")  # after a line that was cut short
        while True:
            while len(waiting) < AHEAD and (cell := next(left, None)) is not None:
                future = executor.submit(play, cell)
                waiting[future] = cell
                if future.done():  # in this process: kept before the next is begun
                    break
            if not waiting:
                break
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                cell = waiting.pop(future)
                try:
                    done[cell] = future.result()
                except BrokenExecutor as error:
                    raise TaskError(
                        f"a process ended in {cell.solver} on {cell.family}, for want of memory perhaps: give fewer "
                        "--processes; the same command goes on from here"
                    ) from error
                file.write(json.dumps(done[cell]) + "\n")
                file.flush()
            tell(sum(cell in done for cell in todo), len(todo))
    return [done[cell] for cell in todo]


def read(path: Path) -> dict[Cell, Facts]:
    """The runs that a file holds; none where there is no file."""
    found: dict[Cell, Facts] = {}
    names = [field.name for field in fields(Cell)]
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            facts = json.loads(line)
            found[Cell(*(facts[name] for name in names))] = facts
        except (ValueError, KeyError, TypeError):
            continue
    return found


def left_out(families: Sequence[str], solvers: Sequence[str] | None) -> dict[str, str]:
    """Why contestants are given no instance of a family, by ``family: solver``; without ``solvers`` of all."""
    asked = [contestant(name) for name in solvers or CONTESTANTS]
    return {
        f"{name}: {one.name}": why
        for name in (family(given).name for given in families)
        for one in asked
        if (why := one.refusal(instance_of(name, 0))) is not None
    }


def refusals(facts: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Why contestants could not take instances, by ``family: solver``."""
    return {f"{one['family']}: {one['solver']}": one["refused"] for one in facts if "refused" in one}
