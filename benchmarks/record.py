"""A benchmark's JSON file: rows are added as they are measured, and a stopped run goes on with what is missing."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

import coldpress as cp
from coldpress.commands.subject import build_model, read_data, read_task, timing_example
from coldpress.memory import keep_freed_memory
from coldpress.proof import versions
from coldpress.runtime.devices import device


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark that compresses a network takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", help="not for hf:FOLDER, which brings its own")
    parser.add_argument("--data", default="cifar10-jpeg")
    parser.add_argument("--data-dir")
    parser.add_argument("--units", default="width,rank,bits,depth")
    parser.add_argument("--tokens", type=int, help="length of texts at which latency is measured")
    parser.add_argument("--measurements", help="folder for what several budgets have in common")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", required=True)
    return parser


def training_flags(parser: argparse.ArgumentParser, epochs: int) -> None:
    """How networks are trained; what is not given is as in `coldpress.Recipe`."""
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--optimizer")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--distil-weight", type=float)
    parser.add_argument("--mixup", type=float)
    parser.add_argument("--no-hold-out", action="store_true", help="train on all of the train data, keep no validation")


def training_recipe(args: argparse.Namespace) -> dict[str, Any]:
    """The flags of `training_flags` that were given, and of hints where the script has them."""
    names = (
        "epochs",
        "lr",
        "optimizer",
        "batch_size",
        "temperature",
        "distil_weight",
        "mixup",
        "hint_weight",
        "attention_weight",
    )
    return {name: value for name in names if (value := getattr(args, name, None)) is not None}


def task_of(args: argparse.Namespace, seed: int) -> cp.Task:
    """The task that the flags name."""
    names = ("model", "weights", "data", "data_dir", "tokens")
    recipe = cp.Recipe(seed=seed, **{name: getattr(args, name, None) for name in names})
    if not getattr(args, "no_hold_out", False):
        return read_task(recipe)
    splits = read_data(recipe).whole()
    model = build_model(recipe.model, recipe.weights, None, splits)
    return cp.Task(
        model,
        timing_example(splits.train, recipe.tokens),
        **splits.arguments(),
        seed=seed,
        name=args.model,
        hold_out=False,
    )


def use_threads(count: int) -> None:
    """Let torch and numba use so many threads; for what comes before `Record`, which says how many they have."""
    numba.set_num_threads(count)  # first: as it starts its threads it gives OpenMP, and so torch, as many as there are
    torch.set_num_threads(count)


def one_thread() -> None:
    """Let torch and numba use one thread."""
    use_threads(1)


def run_name(args: argparse.Namespace) -> str:
    """The model's name as a folder may be called."""
    return (place(args.model) or "").replace(":", "-")


FREE = ("out", "runs", "seeds", "only", "data_dir", "weights", "no_control", "retime", "measurements")
"""Settings that may change between the parts of one record."""


class Record:
    """Rows of measurements in a file, each with the commit and the day it was made.

    Args:
        args: the command's settings; ``args.out`` is the file. Rows of a file made with other settings are refused.
        keys: entries that name a row.
    """

    def __init__(self, args: argparse.Namespace, *keys: str) -> None:
        keep_freed_memory()  # as the command line does
        self.path, self.keys = Path(args.out), keys
        settings = _given({name: value for name, value in vars(args).items() if name not in FREE})
        settings |= {name: place(settings[name]) for name in ("model", "data") if name in settings}
        self.head = {
            "command": command_line(args),
            "versions": versions(),
            "machine": device(1).summary(),
            "torch_threads": torch.get_num_threads(),
            "numba_threads": numba.get_num_threads(),
            "settings": settings,
        }
        self.rows: list[dict[str, Any]] = []
        if self.path.exists():
            found = json.loads(self.path.read_text())
            if _given(found["settings"]) != json.loads(json.dumps(settings)):
                raise SystemExit(f"{self.path} holds rows of other settings, {found['settings']}: choose another --out")
            self.rows = found["rows"]

    def has(self, **name: Any) -> bool:
        """Whether a row of this name is there."""
        return any(all(row.get(key) == value for key, value in name.items()) for row in self.rows)

    def add(self, **row: Any) -> None:
        """Add a row measured now, or replace the one of its name."""
        self.put({**row, "commit": commit(), "day": time.strftime("%Y-%m-%d")})

    def put(self, row: dict[str, Any]) -> None:
        """Put a row in the place of the one of its name, and write the file (beside, then renamed)."""
        name = {key: row.get(key) for key in self.keys}
        same = (i for i, old in enumerate(self.rows) if all(old.get(key) == value for key, value in name.items()))
        place = next(same, len(self.rows))
        self.rows[place : place + 1] = [row]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".partial")
        beside.write_text(json.dumps({**self.head, "rows": self.rows}, indent=1, default=str) + "\n")
        beside.replace(self.path)
        print(json.dumps({**name, **{k: v for k, v in row.items() if isinstance(v, int | float | str)}}), flush=True)

    def fill(self, one: Callable[[argparse.Namespace, int], dict[str, Any]], args: argparse.Namespace) -> None:
        """Measure the seeds that are missing, one row each."""
        for seed in args.seeds:
            if not self.has(seed=seed):
                self.add(**one(args, seed))

    def show(self, table: str, statistic: str = "Means") -> None:
        """Print a table of the rows, and write it beside the file with the command above it.

        Args:
            table: Markdown.
            statistic: what its figures are over seeds.
        """
        commits = ", ".join(dict.fromkeys(str(row["commit"]) for row in self.rows))
        machine = f"{self.head['machine']['processor']}, {self.head['machine']['cores']} cores, "
        machine += f"{self.head['machine']['runtime']}, torch {self.head['versions']['torch']}"
        text = f"`{self.head['command']}`\n\n{table}\n\n{machine}; commits {commits}. "
        text += f"{statistic} over seeds (least to most).\n"
        self.path.with_suffix(".md").write_text(text)
        print(text)


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that were given: a script may get flags that older records do not know."""
    return {name: value for name, value in settings.items() if value is not None and value is not False}


def command_line(args: argparse.Namespace) -> str:
    """The command line, with files and folders as another machine would name them."""
    words = ["python", *sys.argv]
    places = {args.data_dir: "DIR", getattr(args, "runs", None): "RUNS", args.out: f"results/{Path(args.out).name}"}
    given = (args.model, args.data, args.weights, getattr(args, "measurements", None))
    places |= {name: place(name) for name in given}
    return shlex.join([places.get(word) or word for word in words])


def place(name: str | None) -> str | None:
    """A file's or folder's name without the way to it."""
    if name is None or "/" not in name:
        return name
    prefix = "hf:" if name.startswith("hf:") else ""
    return prefix + Path(name.removeprefix("hf:")).name


def commit() -> str:
    """The commit that is measured, with a + where files differ from it."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "../src", "*.py") else "")


def spread(values: list[float], digits: int = 2, statistic: Callable[[list[float]], Any] = np.mean) -> str:
    """Mean (or another statistic), and least to most, as text; empty where there is nothing."""
    if not values:
        return ""
    middle = f"{statistic(values):.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"
