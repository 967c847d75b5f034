"""Single units chosen at scale: gaps, seconds and memory of `coldpress.solvers.select`, one thread.

    OPENBLAS_NUM_THREADS=1 python benchmarks/structure_scale.py --out results/structure_scale.json

Half of n units go. A unit has a weight w ~ N(0, 1), an own curvature d ~ Exp(1) and a direction u ~ N(0, 1 / rank) in
each of the rank's dimensions; the harm is 1/2 sum w^2 d x + 1/2 |sum w u x|^2, diagonal plus low rank. Beside the
solver: the smallest weights (magnitude), the smallest harms alone (diagonal), best exchanges from there (swaps), and
Frank-Wolfe with rounding and exchanges. ``--model`` adds the channels of a real network, whose Fisher energy and
costs are the problem. Every size runs in a process of its own, so that its peak of memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from typing import Any

import numpy as np

import coldpress as cp
from coldpress.commands.subject import read_task
from coldpress.memory import peak_resident
from coldpress.selection import Bools, Floats, Selection
from coldpress.solvers._rounding import descend
from coldpress.solvers.select import select
from record import Record, one_thread

CASES = ((4096, 64, 0.5), (4096, 64, 5.0), (100_000, 256, 60.0))
"""Units, rank, seconds."""


def instance(n: int, rank: int, seed: int) -> tuple[Selection, Floats]:
    """The problem that the head of this file describes, and the weights."""
    rng = np.random.default_rng(seed)
    w, d = rng.normal(size=n), rng.exponential(size=n)
    factor = rng.normal(size=(n, rank))
    factor *= (w / rank**0.5)[:, None]
    return Selection.of_size(0.5 * w * w * d, factor, n // 2), w


def smallest(values: Floats, count: int) -> Bools:
    """The units of the smallest values."""
    chosen = np.zeros(len(values), np.bool_)
    chosen[np.argsort(values, kind="stable")[:count]] = True
    return chosen


def frank_wolfe(problem: Selection, count: int, seconds: float) -> tuple[Bools, float]:
    """Frank-Wolfe with exact steps on the same relaxation, rounded, then exchanges; and its bound."""
    began, bound = time.perf_counter(), -np.inf
    x = smallest(problem.linear + problem.own, count).astype(np.float64)
    pull = x @ problem.factor
    while time.perf_counter() < began + 0.7 * seconds:
        gradient = problem.linear + problem.factor @ pull
        corner = smallest(gradient, count).astype(np.float64)
        step = corner - x
        slope, change = float(gradient @ step), step @ problem.factor
        bound = max(bound, float(problem.linear @ x + 0.5 * pull @ pull + slope))
        length = min(max(-slope / (float(change @ change) + 1e-300), 0.0), 1.0)
        x, pull = x + length * step, pull + length * change
    return descend(problem, smallest(-x, count), began + seconds), bound


def above(energy: float, bound: float) -> float:
    """How far an energy is above a bound, as a share of the bound."""
    return max(float(energy / bound - 1.0), 0.0) if bound > 0 else float("inf")


def measure(n: int, rank: int, seconds: float, seed: int) -> dict[str, Any]:
    """One instance; all gaps are to the solver's certified bound, as shares of it."""
    one_thread()
    problem, weights = instance(n, rank, seed)
    select(Selection.of_size(np.ones(4), np.eye(4), 2), time_limit=0.1)  # everything compiled
    found = select(problem, seed=seed, time_limit=seconds, runs=30 if n < 10_000 else 8)
    peak = peak_resident()
    row: dict[str, Any] = {"energy": found.energy, "bound": found.lower_bound}
    row |= {"seconds": found.seconds, "peak": peak, "trace": found.trace}
    diagonal = smallest(problem.linear + problem.own, n // 2)
    fully, bound = frank_wolfe(problem, n // 2, seconds)
    others = {
        "gap": found.chosen,
        "magnitude": smallest(np.abs(weights), n // 2),
        "diagonal": diagonal,
        "swaps": descend(problem, diagonal, time.perf_counter() + seconds),
        "frank_wolfe": fully,
    }
    row |= {name: above(problem.energy_of(chosen), found.lower_bound) for name, chosen in others.items()}
    return row | {"frank_wolfe_bound": bound / found.lower_bound - 1.0}


def network(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Single channels of a real network within a share of its MACs: the problem's gap and the measured losses."""
    recipe = cp.Recipe(model=args.model, weights=args.weights, data=args.data, data_dir=args.data_dir, seed=seed)
    task, share = read_task(recipe), cp.Budget(macs=f"{args.macs:.0%}")
    row: dict[str, Any] = {}
    for energy in ("fisher", "curvature"):
        found = cp.compress(task, share, units=("width",), energy=energy, epochs=0, refit_plans=0, seed=seed)
        row[f"{energy}_kl"] = found.metrics["predicted"]["measured_kl"]
        row[f"{energy}_accuracy"] = found.metrics["compressed"]["accuracy"]
        row[f"{energy}_macs"] = found.metrics["predicted"]["macs"]
        if energy == "fisher":
            row |= found.metrics["single_channels"]
            row["gap"] = above(row["energy"], row["bound"])
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Medians over seeds, least to most."""
    lines = [
        "| n, rank, limit | seeds | gap | seconds | peak | Frank-Wolfe | swaps | diagonal | magnitude |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    synthetic = [row for row in rows if row["rank"] is not None]
    for case in dict.fromkeys((row["n"], row["rank"], row["limit"]) for row in synthetic):
        own = [row for row in synthetic if (row["n"], row["rank"], row["limit"]) == case]
        cells = [_percent([row[name] for row in own]) for name in ("frank_wolfe", "swaps", "diagonal", "magnitude")]
        seconds = float(np.median([row["seconds"] for row in own]))
        peak = max(row["peak"] or 0 for row in own) / 1e9
        lines.append(
            f"| {case[0]}, {case[1]}, {case[2]:g} s | {len(own)} | {_percent([row['gap'] for row in own])} | "
            f"{seconds:.2f} | {peak:.2f} GB | " + " | ".join(cells) + " |"
        )
    for row in rows:
        if row["rank"] is None:
            lines.append(
                f"\n{row['n']}, MACs {row['limit']:.0%}, {row['units']} single units: gap {row['gap']:.2%}; accuracy "
                f"{row['fisher_accuracy']:.2%} (KL {row['fisher_kl']:.3f}) by Fisher at alpha {row['alpha']}, "
                f"{row['curvature_accuracy']:.2%} (KL {row['curvature_kl']:.3f}) by the curvature energy of widths; "
                "re-fitted, not trained."
            )
    return "\n".join(lines) + "\n\nGaps are to the certified bound, as shares of it: medians (least to most)."


def _percent(values: list[float]) -> str:
    return f"{np.median(values):.3%} ({min(values):.3%} to {max(values):.3%})"


def main() -> None:
    """Run what is missing, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--only", type=int, nargs="+", help="numbers of units, of those that there are")
    parser.add_argument("--model", help="a network to add: one of the zoo, cifar_resnet56 say")
    parser.add_argument("--weights")
    parser.add_argument("--data", default="cifar10-jpeg")
    parser.add_argument("--data-dir")
    parser.add_argument("--macs", type=float, default=0.5)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    one_thread()
    record = Record(args, "n", "rank", "limit", "seed")
    fresh = multiprocessing.get_context("spawn")
    for n, rank, limit in CASES:
        for seed in args.seeds:
            key = {"n": n, "rank": rank, "limit": limit, "seed": seed}
            if (args.only is None or n in args.only) and not record.has(**key):
                with fresh.Pool(1) as pool:
                    record.add(**key, **pool.apply(measure, (n, rank, limit, seed)))
    if args.model:
        key = {"n": args.model, "rank": None, "limit": args.macs, "seed": 0}
        if not record.has(**key):
            record.add(**key, **network(args, 0))
    record.show(table(record.rows))


if __name__ == "__main__":
    main()
