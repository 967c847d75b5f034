"""The main job, measured: a budget on latency or bytes, recovery, and a control that trains as long.

    python benchmarks/deploy.py --model cifar_resnet18 --weights W --data-dir DIR \
        --budget latency=10% --budget size=6% --epochs 5 --out benchmarks/results/resnet18.json

The control is the original trained on for the same epochs by the same recipe (distilled from itself). Test data is
looked at once a run, by ONNX Runtime, both sides interleaved.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
import time
from pathlib import Path
from typing import Any

import coldpress as cp
from coldpress.deploy import time_files
from coldpress.evaluate import compare
from coldpress.plan import Plan
from coldpress.recovery import distil, stream_inputs
from coldpress.runtime.onnx import export
from coldpress.steps import training_settings
from record import Record, arguments, commit, run_name, task_of, training_flags, training_recipe

KEPT = ("original", "compressed", "comparison", "predicted", "solver", "validation", "plan", "int8_layers")


def one(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One seed: the compressed network, and the control."""
    task = task_of(args, seed)
    budget = cp.Budget.parse(args.budget)
    start = time.perf_counter()
    training = training_recipe(args)
    planning = {name: getattr(args, name) for name in ("calibration", "refit_plans") if getattr(args, name) is not None}
    result = cp.compress(
        task,
        budget,
        seed=seed,
        units=tuple(args.units.split(",")),
        **training,
        **planning,
        out=Path(args.runs) / f"{run_name(args)}-{seed}",
        measurements=args.measurements,
    )
    row: dict[str, Any] = {"seed": seed, "seconds": time.perf_counter() - start}
    row |= {name: result.metrics.get(name) for name in KEPT}
    row["predicted_over_measured"] = _ratio(
        result.metrics["predicted"]["latency_ms"], result.metrics["compressed"]["latency_ms"]["median"]
    )
    return row


def trained_on(args: argparse.Namespace, row: dict[str, Any]) -> dict[str, Any]:
    """A row with its control: the original trained on for the same epochs by the same recipe, hints included."""
    seed = row["seed"]
    task, training = task_of(args, seed), training_recipe(args)
    control, recipe = copy.deepcopy(task.model), cp.Recipe(seed=seed, **training)
    distil(
        control,
        task.model,
        task,
        training_settings(recipe),
        temperature=recipe.temperature,
        weight=recipe.distil_weight,
        hints=stream_inputs(cp.find_space(task, tuple(args.units.split(","))), Plan()),
        hint_weight=recipe.hint_weight,
        attention_weight=recipe.attention_weight,
    )
    small = cp.load(Path(args.runs) / f"{run_name(args)}-{seed}", lambda: copy.deepcopy(task.model))
    trained, student = task.evaluate(control, "test"), task.evaluate(small, "test")
    against = compare(trained, student)
    found = {
        "accuracy": trained.accuracy,
        **({"perplexity": trained.perplexity} if task.per_token else {}),
        "float_difference": against.difference,
        "float_difference_interval": against.difference_interval,
        "difference": row["compressed"]["accuracy"] - trained.accuracy,
        "commit": commit(),
    }
    return {**row, "control": found}


def timed_again(args: argparse.Namespace, row: dict[str, Any]) -> dict[str, Any]:
    """A row with both sides timed anew, in turns, from the run's folder; what was measured first stays beside it."""
    task = task_of(args, row["seed"])
    with tempfile.TemporaryDirectory() as folder:
        original = export(task.model, task.example_inputs, Path(folder) / "original.onnx")
        compressed = Path(args.runs) / f"{run_name(args)}-{row['seed']}" / "model.onnx"
        times = time_files({"original": original, "compressed": compressed}, task.example_inputs, seed=row["seed"])
    row = copy.deepcopy(row)
    row["first_timed"] = {side: row[side]["latency_ms"] for side in times} | {"commit": row["commit"]}
    for side, timing in times.items():
        row[side]["latency_ms"] = timing.summary()
    fraction = row["predicted"]["latency_fraction"]
    share = times["compressed"].median / times["original"].median
    row["predicted_over_measured"] = None if fraction is None else fraction / share
    return row


def _ratio(a: float | None, b: float) -> float | None:
    return None if a is None else a / b


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--budget", action="append", required=True)
    training_flags(parser, epochs=5)
    parser.add_argument("--hint-weight", type=float)
    parser.add_argument("--attention-weight", type=float)
    parser.add_argument("--calibration", type=int, help="samples for the energy")
    parser.add_argument("--refit-plans", type=int, help="random plans that are also measured re-fitted")
    parser.add_argument("--no-control", action="store_true")
    parser.add_argument("--retime", action="store_true", help="only time the rows that are there again: a quiet moment")
    parser.add_argument("--runs", default="runs", help="folder for the artifacts")
    args = parser.parse_args()
    record = Record(args, "seed")
    if args.retime:
        for row in [row for row in record.rows if row["seed"] in args.seeds]:
            record.add(**timed_again(args, row))
    else:
        record.fill(one, args)
        for row in [row for row in record.rows if row["seed"] in args.seeds]:
            if args.epochs and not args.no_control and "control" not in row:
                record.put(trained_on(args, row))
    record.show(table(record.rows))


def table(rows: list[dict[str, Any]]) -> str:
    """One line a seed, as Markdown; decoders by perplexity."""
    what = "perplexity" if rows and "perplexity" in rows[0]["original"] else "accuracy"
    lines = [
        f"| seed | {what} | compressed | control | latency ms | bytes | predicted / measured |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        before, after = row["original"], row["compressed"]
        sides = [_shown(side, what) for side in (before, after, row.get("control"))]
        times = f"{before['latency_ms']['median']:.3f} to {after['latency_ms']['median']:.3f}"
        times += f" ({after['latency_ms']['median'] / before['latency_ms']['median']:.1%})"
        size = f"{after['file_bytes']} ({after['file_bytes'] / before['file_bytes']:.1%})"
        ratio = row["predicted_over_measured"]
        last = "" if ratio is None else f"{ratio:.2f}"
        lines.append(f"| {row['seed']} | {' | '.join(sides)} | {times} | {size} | {last} |")
    return "\n".join(lines)


def _shown(side: dict[str, Any] | None, what: str) -> str:
    if side is None:
        return ""
    return f"{100 * side[what]:.2f}" if what == "accuracy" else f"{side[what]:.3f}"


if __name__ == "__main__":
    main()
