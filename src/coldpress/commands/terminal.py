"""The terminal: results on standard output; progress, warnings and errors on standard error."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from typer import Exit
from typer.core import TyperGroup

from coldpress.errors import ColdpressError


class Tell(Protocol):
    """Takes the progress of a step."""

    def __call__(self, step: str, done: int, total: int, note: str = ...) -> None: ...


USER_ERROR, STOPPED = 2, 130
RESUMABLE = ("compress", "demo", "train", "search", "benchmark", "reproduce")

out = Console()
err = Console(stderr=True)


class Guarded(TyperGroup):
    """Turns a user's mistake into one line and exit code 2, Ctrl-C into a line that says how to go on."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command named on the command line."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            words = "; the same command goes on from the last finished step"
            err.print(f"stopped{words if ctx.invoked_subcommand in RESUMABLE else ''}", style="yellow", soft_wrap=True)
            raise Exit(STOPPED) from None
        except (ColdpressError, OSError) as error:
            if debugging() or isinstance(error, BrokenPipeError):  # the reader of a pipe has gone: no mistake
                raise
            err.print(f"error: {error}", style="bold red", soft_wrap=True, markup=False, highlight=False)
            raise Exit(USER_ERROR) from None


def debugging() -> bool:
    """Whether COLDPRESS_DEBUG asks for tracebacks."""
    return os.environ.get("COLDPRESS_DEBUG", "") not in ("", "0")


def start_logging(verbose: bool = False) -> None:
    """Show coldpress' warnings, or with ``verbose`` all that it logs; keep its dependencies quiet."""
    logger = logging.getLogger("coldpress")
    for handler in [h for h in logger.handlers if isinstance(h, RichHandler)]:
        logger.removeHandler(handler)
    logger.addHandler(RichHandler(console=err, show_time=verbose, show_path=False))
    logger.setLevel(logging.DEBUG if debugging() else logging.INFO if verbose else logging.WARNING)
    logger.propagate = False
    if not debugging():
        warnings.filterwarnings("ignore", module=r"(torch|onnx|onnxscript|torch_pruning|numba)(\.|$)")


@contextmanager
def progress_bars() -> Iterator[Tell]:
    """A bar with the time left for every step; call what is given with (step, done, in all).

    Where standard error is no terminal, as in a log, a line tells when a step begins.
    """
    if not err.is_terminal:
        yield _lines()
        return
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bars = Progress(*columns, console=err)
    known: dict[str, TaskID] = {}
    current: list[TaskID] = []

    def tell(step: str, done: int, total: int, note: str = "") -> None:
        if not known:
            bars.start()  # not before: a mistake that is found at once leaves no empty bars
        if step not in known:
            known[step] = bars.add_task(step, total=total, note=note)
        task = known[step]
        if current and current[-1] != task:
            bars.stop_task(current.pop())  # a step that a limit ended has no time left
        if done < bars.tasks[task].completed:  # a step that comes again, as bisection's do
            bars.reset(task, total=total)
        current[:] = [task]
        bars.update(task, completed=done, total=total, note=note)

    try:
        yield tell
    finally:
        if known:
            bars.stop()


def _lines() -> Tell:
    """Tells steps by lines: the name and how much there is to do, and the seconds since the start."""
    current: list[str] = []
    begun = time.perf_counter()

    def tell(step: str, done: int, total: int, note: str = "") -> None:
        if current != [step]:
            current[:] = [step]
            more = f", {note}" if note else ""
            err.print(f"{time.perf_counter() - begun:5.0f} s  {step} ({total}{more})", highlight=False, soft_wrap=True)

    return tell
