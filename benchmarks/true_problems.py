"""The problems of real networks that `coldpress benchmark solvers` solves: measured once, stored in the package.

    python benchmarks/true_problems.py resnet20 --model cifar_resnet20 --weights resnet20.safetensors \
        --data cifar10-jpeg --data-dir DIR --units width,rank,bits,depth --budget macs=50% --budget size=40%

The commands of all are in the files, see `coldpress.instances.Stored.facts`. The energy is the curvature's as measured,
its pairwise part in full: planning shrinks it by a share alpha that is fitted on random plans, down to none of it, and
without it there is little to solve. Limits are absolute; latency takes no part, as it is another one on every machine.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

import coldpress as cp
from coldpress import steps
from coldpress.instances import stored
from coldpress.keys import run_key
from coldpress.memory import keep_freed_memory
from coldpress.planning import absolute
from coldpress.problem import Cost, Factor, Problem
from coldpress.run import Run
from coldpress.workspace import Workspace
from record import command_line, commit, place, task_of

FOLDER = Path(__file__).parent.parent / "src" / "coldpress" / "instances" / "problems"
MEASURED = ("size", "macs")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the file, without its ending")
    parser.add_argument("--model", required=True)
    parser.add_argument("--weights", help="not for hf:FOLDER, which brings its own")
    parser.add_argument("--data", required=True)
    parser.add_argument("--data-dir")
    parser.add_argument("--units", required=True)
    parser.add_argument("--budget", action="append", required=True)
    parser.add_argument("--calibration", type=int, default=128)
    parser.add_argument("--refit-images", type=int, default=512)
    parser.add_argument("--random-plans", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=str(FOLDER), help="folder; by default the package's own")
    args = parser.parse_args()
    keep_freed_memory()
    facts = {"command": command_line(args), "commit": commit(), "model": place(args.model), "data": place(args.data)}
    problem, measured = measure(args)
    path = stored.write(problem, Path(args.out) / f"{args.name}.npz", {**facts, **measured})
    kept, _ = stored.read(path.read_bytes())
    print(f"\n{path.name}: {path.stat().st_size / 1e3:.0f} kB, {len(kept.sizes)} units, {sum(kept.sizes)} options")


def measure(args: argparse.Namespace) -> tuple[Problem, dict[str, float | None]]:
    """The problem, and how well its energy tells the loss of random plans."""
    names = ("budget", "calibration", "refit_images", "random_plans", "seed")
    recipe = cp.Recipe(units=tuple(args.units.split(",")), **{name: getattr(args, name) for name in names})
    task = task_of(args, args.seed)

    def tell(step: str, done: int, total: int) -> None:
        print(f"{step} {done}/{total}", end="\r", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        run = Run(task, recipe, Workspace(Path(folder) / "run", run_key(task, recipe)), tell)
        space = steps.offered(run)
        prices, original = steps.priced(run, space)
        effects, _ = steps.effects_of(run, space)
        found, correlation = steps.measured_energy(run, space, effects)
    costs = {name: _portable(name, cost) for name, cost in prices.costs().items()}
    costs = {name: cost for name, cost in costs.items() if name in MEASURED or cost.factors}
    originals = {name: costs[name].value([0] * len(space.units)) for name in MEASURED}
    originals["size"] = float(original.bytes)
    problem = Problem(space, found.energy(space), costs, absolute(recipe.limits(), originals))
    return problem, {"spearman": correlation.spearman, "fitted alpha": correlation.alpha}


def _portable(name: str, cost: Cost) -> Cost:
    """Bytes and MACs as they are; of latency only what it forbids."""
    if name in MEASURED:
        return cost
    barriers = [Factor(f.units, np.where(np.isinf(f.table), np.inf, 0.0)) for f in cost.factors]
    return Cost(name, tuple(f for f in barriers if f.table.any()))


if __name__ == "__main__":
    main()
