"""How a plan is come by, measured: time by step, the energy's truth, what the solvers prove, and the annealer beside.

    python benchmarks/planning.py --model cifar_resnet56 --weights W --data-dir DIR --budget macs=47% \
        --units width --out benchmarks/results/planning_resnet56_widths.json

Layers that the latency table of this machine does not hold yet are measured first, and counted.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import coldpress as cp
from coldpress.solvers import relative_gap
from record import Record, arguments, spread, task_of


def one(args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """One seed: a preview, and both solvers on the problem that it ended with."""
    task = task_of(args, seed)
    start = time.perf_counter()
    data = {"calibration": args.calibration, "refit_images": args.refit_images}
    data = {name: value for name, value in data.items() if value is not None}
    found = cp.predict(task, cp.Budget.parse(args.budget), units=tuple(args.units.split(",")), seed=seed, **data)
    seconds = time.perf_counter() - start
    exact = cp.solve(found.problem, "auto", seed=seed, time_limit=10.0)
    annealed = cp.solve(found.problem, "anneal", seed=seed, time_limit=10.0)
    return {
        "seed": seed,
        "seconds": seconds,
        "steps": found.seconds,
        "units": len(found.space.units),
        "options": sum(found.space.sizes),
        "energy_cost": found.energy_cost,
        "spearman": found.spearman,
        "spearman_separable": found.spearman_separable,
        "predicted": found.facts["predicted"],
        "plan": dict(found.plan.choices),
        "solver": exact.solver,
        "energy": exact.energy,
        "gap": exact.gap,
        "solver_seconds": exact.seconds,
        "annealer_energy": annealed.energy,
        "annealer_seconds": annealed.seconds,
        "annealer_over_exact": relative_gap(annealed.energy, exact.energy),
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--budget", action="append", required=True)
    parser.add_argument("--calibration", type=int, help="samples for the energy; as many others judge it")
    parser.add_argument("--refit-images", type=int)
    args = parser.parse_args()
    record = Record(args, "seed")
    record.fill(one, args)
    record.show(table(record.rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds as Markdown."""
    lines = ["| what | mean (least to most) |", "|---|---|"]
    for name, key, scale, digits in (
        ("time to plan, s", "seconds", 1, 0),
        ("energy: seconds over (options x one full pass)", "energy_cost", 1, 2),
        ("rank correlation with measured loss, random plans", "spearman", 1, 3),
        ("the same without terms between units", "spearman_separable", 1, 3),
        ("proven gap, %", "gap", 100, 2),
        ("solver, s", "solver_seconds", 1, 1),
        ("annealer above exact, %", "annealer_over_exact", 100, 2),
    ):
        lines.append(f"| {name} | {spread([scale * row[key] for row in rows if row.get(key) is not None], digits)} |")
    tried = [row["predicted"].get("measured_kl_by_alpha") or {} for row in rows]
    for alpha in sorted({alpha for losses in tried for alpha in losses}, key=float):
        found = spread([losses[alpha] for losses in tried if alpha in losses], 4)
        lines.append(f"| measured loss, nats, of the plan by {alpha} of the terms between units | {found} |")
    for step in rows[0]["steps"] if rows else ():
        lines.append(f"| of it {step}, s | {spread([row['steps'][step] for row in rows if step in row['steps']], 0)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
