"""Every solver on every family: ``OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/solvers_quick.py``.

Writes results/solvers_quick.json and .md beside this file. ``--seconds`` is the limit of each run, ``--seeds`` how many
problems of a family there are. The gap to the best plan known (from all solvers) says how good a plan is, the proven
gap how much a solver knows of it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from coldpress.instances import family
from coldpress.solvers import SOLVERS, relative_gap, solve

RESULTS = Path(__file__).parent / "results"
FAMILIES = ("widths", "chain", "joint", "choice-dense", "choice-cancelling", "choice-indefinite")


def main() -> None:
    """Run, write, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    rows = [row for name in FAMILIES for seed in range(given.seeds) for row in measure(name, seed, given.seconds)]
    machine = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
    }
    threads = " ".join(f"{name}={os.environ.get(name, '')}" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"))
    head = {
        "command": f"{threads} python benchmarks/solvers_quick.py --seconds {given.seconds:g} --seeds {given.seeds}"
    }
    text = table(rows, list(SOLVERS), given.seconds)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "solvers_quick.json").write_text(json.dumps({**head, **machine, "rows": rows}, indent=1) + "\n")
    (RESULTS / "solvers_quick.md").write_text(f"`{head['command']}`\n\n{text}")
    print(text)


def measure(name: str, seed: int, seconds: float) -> list[dict[str, Any]]:
    """One row a solver, on the problem of family ``name`` with ``seed``."""
    problem, rows = family(name).make(seed), []
    for solver in SOLVERS:
        answer = solve(problem, solver, seed=0, time_limit=seconds)
        rows.append({
            "family": name, "seed": seed, "solver": solver, "energy": answer.energy, "lower_bound": answer.lower_bound,
            "proven_gap": answer.gap, "seconds": round(answer.seconds, 3),
        })  # fmt: skip
    best = min(row["energy"] for row in rows)
    for row in rows:
        row["gap_to_best"] = relative_gap(row["energy"], best)
    return rows


def table(rows: list[dict[str, Any]], solvers: list[str], seconds: float) -> str:
    """Markdown: gap to the best plan known / proven gap / seconds, means over the seeds."""
    families = list(dict.fromkeys(row["family"] for row in rows))
    lines = [
        f"Gap to the best plan known / proven gap (- none) / seconds, means; limit {seconds:g} s.",
        "",
        "| solver | " + " | ".join(families) + " |",
        "|---" * (len(families) + 1) + "|",
    ]
    for solver in solvers:
        cells = []
        for name in families:
            own = [row for row in rows if row["family"] == name and row["solver"] == solver]
            proven = [row["proven_gap"] for row in own if row["proven_gap"] is not None]
            gap = f"{np.mean(proven):.2%}" if len(proven) == len(own) else "-"
            cells.append(
                f"{np.mean([row['gap_to_best'] for row in own]):.2%} / {gap} / "
                f"{np.mean([row['seconds'] for row in own]):.1f}"
            )
        lines.append(f"| {solver} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
