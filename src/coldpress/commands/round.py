"""`coldpress round`: a network's weights in few bits, and what is said at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from coldpress.artifact import PACKED, check_output
from coldpress.commands.subject import read_task
from coldpress.commands.terminal import out, progress_bars
from coldpress.errors import ArtifactError
from coldpress.executors import open_executor
from coldpress.few_bits.artifact import RoundedResult, check_rounding, round_to_artifact
from coldpress.proof import reproduce_command
from coldpress.recipe import Recipe
from coldpress.report import formats
from coldpress.report.tables import final_table


def run(recipe: Recipe, folder: Path | None, overwrite: bool, executor: str = "none", processes: int = 1) -> None:
    """Round the weights of the model that a recipe names, with progress bars, and show the result.

    Args:
        recipe: what to round, and how.
        folder: where the artifact goes.
        overwrite: replace it where it exists.
        executor, processes: see `coldpress.executors.open_executor`; "none": one layer at a time, on all cores.
    """
    check_rounding(recipe)
    if folder is None:
        raise ArtifactError("no place for the result: give --out FOLDER")
    check_output(folder, overwrite)
    task = read_task(recipe)
    settings = {name: value for name, value in asdict(recipe).items() if name != "ignored_layers"}  # the task's
    opened: AbstractContextManager[Executor | None] = (
        nullcontext() if executor == "none" else open_executor(executor, processes)
    )
    with opened as pool, progress_bars() as tell:
        result = round_to_artifact(
            task, folder, overwrite=overwrite, executor=pool, progress=tell, command=reproduce_command(), **settings
        )
    show_result(result)


def show_result(result: RoundedResult) -> None:
    """The table before / after, and the lines that matter."""
    metrics, folder = result.metrics, result.folder
    out.print()
    out.print(final_table(metrics))
    for line in (described(metrics), packed(metrics), speed(metrics)):
        out.print(line, soft_wrap=True, highlight=False)
    out.print(
        f"Keep {folder / PACKED}, coldpress.load reads it; deploy {folder / 'model.onnx'}; read "
        f"{folder / 'report.html'}",
        soft_wrap=True,
        highlight=False,
    )


def described(metrics: Mapping[str, Any]) -> str:
    """How many layers have which form."""
    counts = Counter(metrics["plan"].values())
    forms = "; ".join(f"{count} at {label}" for label, count in counts.most_common())
    line = f"Layers: {forms}. KL from the original on calibration data: {formats.three(metrics['compressed']['kl'])}"
    split = (metrics.get("comparison") or {}).get("split")
    return line + (f". Accuracies are on {split} data" if split and split != "test" else "")


def packed(metrics: Mapping[str, Any]) -> str:
    """What the packed file's bytes hold."""
    words = {"levels": "levels", "scales": "scales", "others": "all else, in floats", "header": "header"}
    parts = ", ".join(f"{text} {formats.size(metrics['packed'][name])}" for name, text in words.items())
    return f"Packed: {formats.size(metrics['packed']['total'])} ({parts})"


def speed(metrics: Mapping[str, Any]) -> str:
    """What few bits do to the time of a run: size, not speed, unless the median fell by more than both spreads."""
    before, after = (metrics[side]["latency_ms"] for side in ("original", "compressed"))
    share = f"{formats.percent(after['median'] / before['median'])} of the original's latency, both timed in turns"
    if after["median"] < before["median"] - max(before["spread"], after["spread"]):
        return f"model.onnx is faster too: it takes {share}"
    return f"This is size, not speed: model.onnx takes {share}"
