"""The published QUBO of filters and bits on a real network, beside Taylor, Fisher and curvature energies on the same.

    python benchmarks/published_qubo.py --model cifar_resnet20 --weights W --data-dir DIR --rate 0.5 --epochs 0

Each energy is minimised at a reduction rate (of the weights' bits, from 8 each) by bisection on gamma around one-flip
tabu search; the sample is decoded, packed, loaded back and judged on the test data: as published (no other weight
changes), with the other weights re-fitted by least squares, and trained on its grids for so many epochs. The rank
correlations are over random samples of rising strength, and of one strength, on other images than the energies'.
Layers have 8 to 2 bits in steps of 1, 2 and 3; with `--code binary` 8 to 5 in steps of 1 and 2, the published code to
the letter.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import dimod
from torch import Tensor

import coldpress as cp
from coldpress.cost.reduction import reduction_rate
from coldpress.energy.filter_correlation import compare_energies, random_samples
from coldpress.energy.filter_curvature import curvature
from coldpress.energy.first_order import first_order_changes
from coldpress.energy.taylor import fisher, taylor
from coldpress.energy.weight_norm import weight_norm
from coldpress.errors import BudgetError
from coldpress.filters import LEAST_BITS, FilterSpace
from coldpress.papers.decoded import DECODED, REFITTED, TRAINED, carried_out, judge, uniform_bits
from coldpress.recovery import Settings
from coldpress.samplers import OneFlipTabuSampler
from coldpress.solvers.reduction import bisect_gamma, penalise
from coldpress.space.filters import find_filters
from record import Record, arguments, spread, task_of, training_flags, training_recipe

Energies = dict[str, dimod.BinaryQuadraticModel]
ENERGIES = ("weight norm", "Taylor", "Fisher", "curvature")
UNIFORM = "uniform bits"
STRENGTH = 0.25
"""Share of filters and bits that go in samples of one strength."""
KINDS = {"rising": (0.05, 0.6), "equal": (STRENGTH, STRENGTH)}
"""Least and most of it in samples of a kind."""


def energies_of(
    names: list[str], task: cp.Task, space: FilterSpace, inputs: list[Tensor], labels: Tensor
) -> tuple[Energies, Any]:
    """The energies that were asked for, and the seconds that each took."""
    seconds: dict[str, float] = {}

    def timed(name: str, make: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        made = make()
        seconds[name] = time.perf_counter() - start
        return made

    changes: Any = None
    if {"Taylor", "Fisher"} & set(names):
        changes = timed("gradients", lambda: first_order_changes(task.model, space, inputs, labels))
    makers: dict[str, Callable[[], Any]] = {
        "weight norm": lambda: weight_norm(task.model, space),
        "Taylor": lambda: taylor(space, changes),
        "Fisher": lambda: fisher(space, changes),
        "curvature": lambda: curvature(task.model, space, inputs),
    }
    return {name: timed(name, makers[name]) for name in names}, seconds


def correlations(
    args: argparse.Namespace, seed: int, task: cp.Task, space: FilterSpace, energies: Energies, inputs: list[Tensor]
) -> Iterator[dict[str, Any]]:
    """Rows of rank correlations with the measured loss, by kind of random samples."""
    for kind, (least, most) in KINDS.items():
        samples = random_samples(space, args.samples, seed, least, most)
        found = compare_energies(task.model, space, energies, inputs, samples)
        for name, value in found.spearman.items():
            yield {"energy": name, "rate": None, "what": ranked(kind), "value": value}


def ranked(kind: str) -> str:
    """What a row of rank correlations is called."""
    return f"rank correlation, {kind}"


def training(args: argparse.Namespace, name: str) -> Settings | None:
    """How an energy's networks are trained, if they are."""
    if not args.epochs or (args.train and name not in args.train):
        return None
    return Settings(**{k: v for k, v in training_recipe(args).items() if k in Settings.__dataclass_fields__})


def stages(args: argparse.Namespace, name: str) -> dict[str, str]:
    """The rows of one energy at one rate: the name of a stage, and what its row is called."""
    found = {DECODED: "as published", REFITTED: REFITTED}
    return found | ({TRAINED: f"trained {args.epochs} epochs"} if training(args, name) else {})


def solved(
    args: argparse.Namespace, seed: int, task: cp.Task, space: FilterSpace, name: str, energy: Any, rate: float
) -> Iterator[dict[str, Any]]:
    """Rows of one energy at one reduction rate."""
    reduction = reduction_rate(space)
    if name == UNIFORM:
        try:
            sample = uniform_bits(space, rate)
        except BudgetError as error:
            print(f"{name} left out: {error}", flush=True)
            return
        how: dict[str, Any] = {}
    else:
        options = {"seed": seed, "num_reads": 2}
        found = bisect_gamma(energy, reduction, rate, OneFlipTabuSampler(), space.keep_one, **options)
        beside = penalise(energy, reduction, rate, OneFlipTabuSampler(), space.keep_one, **options)
        sample = found.sample
        how = {
            "energy_value": found.loss,
            "raw": found.raw,
            "solver_seconds": found.seconds,
            "runs": len(found.trace),
            "penalty_energy": beside.loss,
            "penalty_seconds": beside.seconds,
        }
    how |= {"reduction": space.reduction(sample), "filters_gone": sum(list(sample.values())[: len(space.filters)])}
    names = stages(args, name)
    for stage, decoded, seconds in carried_out(task, space, sample, args.refit_images, training(args, name)):
        bits = {"bits_kept": decoded.weight_bits / decoded.original_bits, "bits": decoded.bits}
        yield {"what": names[stage], **how, **bits, **asdict(judge(task, decoded, seconds))}


def measure(args: argparse.Namespace, record: Record, seed: int) -> None:
    """All rows of one seed that are missing."""
    task = task_of(args, seed)
    space = find_filters(task, least_bits=LEAST_BITS[args.code or "cut"])
    inputs, labels = task.calibration(2 * args.images)
    first = [tensor[: args.images] for tensor in inputs]
    second = [tensor[args.images :] for tensor in inputs]
    energies, seconds = energies_of(args.energies, task, space, first, labels[: args.images])
    if not record.has(seed=seed, energy="original"):
        found = task.evaluate(task.model)
        file = sum(4 * tensor.numel() for tensor in task.model.state_dict().values())
        row = {"energy": "original", "rate": None, "what": "as it is", "accuracy": found.accuracy, "bytes": file}
        sizes = {"variables": len(space.variables), "filters": len(space.filters), "layers": len(space.layers)}
        record.add(seed=seed, **row, interval=found.accuracy_interval, energy_seconds=seconds, **sizes)
    wanted = [{"seed": seed, "energy": name, "what": ranked(kind)} for kind in KINDS for name in energies]
    if args.samples and not all(record.has(**row) for row in wanted):
        for row in correlations(args, seed, task, space, energies, second):
            record.add(seed=seed, **row)
    for rate in args.rate:
        for name in (UNIFORM, *energies):
            own = {"seed": seed, "energy": name, "rate": rate}
            if not all(record.has(**own, what=what) for what in stages(args, name).values()):
                for row in solved(args, seed, task, space, name, energies.get(name), rate):
                    record.add(**own, **row)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rate", type=float, nargs="+", default=[0.5])
    parser.add_argument("--code", choices=LEAST_BITS, help="of bits: cut (to 2, the default), or binary, as published")
    parser.add_argument("--energies", nargs="+", choices=ENERGIES, default=list(ENERGIES))
    parser.add_argument("--images", type=int, default=128, help="that energies are measured on, and as many to judge")
    parser.add_argument("--samples", type=int, default=40, help="random samples for each rank correlation; 0: none")
    parser.add_argument("--refit-images", type=int, default=512)
    parser.add_argument("--train", nargs="+", help="energies whose networks are trained; all by default")
    training_flags(parser, 0)
    args = parser.parse_args()
    record = Record(args, "seed", "energy", "rate", "what")
    for seed in args.seeds:
        measure(args, record, seed)
    record.show(table(record.rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Rank correlations, then accuracies and bytes."""
    lines = ["| energy | rank correlation, rising strength | of one strength |", "|---|---|---|"]
    names = list(dict.fromkeys(row["energy"] for row in rows if "value" in row))
    for name in names:
        own = {kind: [r["value"] for r in rows if r["energy"] == name and r["what"] == ranked(kind)] for kind in KINDS}
        lines.append(f"| {name} | {spread(own['rising'], 3)} | {spread(own['equal'], 3)} |")
    lines += ["", "| rate | energy | filters gone | kB | what | accuracy, % |", "|---|---|---|---|---|---|"]
    solved = [row for row in rows if "accuracy" in row]
    for rate, name, what in dict.fromkeys((row["rate"], row["energy"], row["what"]) for row in solved):
        own_rows = [row for row in solved if (row["rate"], row["energy"], row["what"]) == (rate, name, what)]
        cells = [
            spread([row["filters_gone"] for row in own_rows if "filters_gone" in row], 0),
            spread([row["bytes"] / 1e3 for row in own_rows], 1),
            what,
            spread([100 * row["accuracy"] for row in own_rows], 2),
        ]
        lines.append(f"| {rate or ''} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
