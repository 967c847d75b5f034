"""Where independent work runs: in this process, in processes of this machine, or on a Dask cluster."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from coldpress.errors import TaskError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Read by numerical libraries when they are loaded, not later."""
DASK = "dask:"
AHEAD = 16
"""Jobs handed to an executor before the first of them is waited for."""
Result = TypeVar("Result")


class InProcess(Executor):
    """Runs what is submitted at once, in the caller's process."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done already."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def open_executor(name: str, processes: int = 1) -> Iterator[Executor]:
    """An executor by name; what was not begun is dropped when the block is left by an error.

    Args:
        name: "none" (this process), "processes" (new ones here, one thread each), or "dask:ADDRESS" of a scheduler.
        processes: how many, for "processes".

    Raises:
        TaskError: an unknown name, fewer than one process, or a cluster that cannot be reached.
    """
    if processes < 1:
        raise TaskError(f"processes is {processes}; give 1 or more")
    if name == "none":
        yield InProcess()
    elif name == "processes":
        with _processes(processes) as pool:
            yield pool
    elif name.startswith(DASK) and name != DASK:
        with _dask(name.removeprefix(DASK)) as cluster:
            yield cluster
    else:
        raise TaskError(f"executor is {name!r}; give none, processes, or dask:ADDRESS, dask:tcp://127.0.0.1:8786 say")


def mapped(executor: Executor | None, fn: Callable[..., Result], jobs: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
    """What ``fn(*job)`` gives, in the order of the jobs; None: in this process, one after the other.

    A job is made when it is handed over, and at most `AHEAD` are held at once: they may be large.

    Raises:
        TaskError: a process of the executor died.
    """
    if executor is None:
        yield from (fn(*job) for job in jobs)
        return
    waiting: deque[Future[Result]] = deque()
    try:
        for job in jobs:
            waiting.append(executor.submit(fn, *job))
            if len(waiting) == AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenExecutor as error:
        raise TaskError(f"a process of the executor died ({error}); memory may be short: use fewer") from error
    finally:
        for future in waiting:
            future.cancel()


@contextmanager
def _processes(count: int) -> Iterator[Executor]:
    kept = {variable: os.environ.get(variable) for variable in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))  # inherited; forked ones would hold the libraries loaded already
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        pool.shutdown()
        for variable, value in kept.items():
            if value is None:
                os.environ.pop(variable, None)
            else:
                os.environ[variable] = value


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        from distributed import Client
    except ImportError as error:
        raise TaskError(
            "a Dask cluster needs distributed; install it with: pip install 'coldpress[dask]', here and on its workers"
        ) from error
    try:
        client = Client(address, timeout="20s", set_as_default=False)
    except (OSError, ValueError) as error:
        raise TaskError(
            f"no Dask scheduler answers at {address} ({error}); start one with: dask scheduler, and workers "
            "with: dask worker ADDRESS --nthreads 1"
        ) from error
    with client:
        executor = client.get_executor(pure=False)
        try:
            yield executor
        except BaseException:
            executor.shutdown(wait=False)
            raise
