"""Channels of small groups chosen by QAOA, simulated, beside the optimum of the same energy, magnitude and chance.

    python benchmarks/qaoa_pruning.py --model cifar_resnet20 --weights resnet20.safetensors --data-dir DIR --out FILE

Every group of so many channels loses the same share of them, first alone, then all such groups together. ``QAOA``
samples the Fisher energy of the group's channels (`coldpress.energy.qaoa_channels`), ``exact`` tries every choice by
the same energy, ``magnitude`` takes the least mean |w|, ``random`` any. Nothing is trained or re-fitted; harm is what
the loss grows by on images of the test data, the same for all, which decide nothing. The seed is of everything random.
"""

from __future__ import annotations

import copy
import itertools
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import coldpress as cp
from coldpress.data import read_batches
from coldpress.energy.fisher import fisher_energy, mask_gradients
from coldpress.energy.qaoa_channels import least_subset
from coldpress.evaluate import Evaluation, evaluate, predictor
from coldpress.plan import ChannelGroup
from coldpress.samplers import QAOASampler
from coldpress.space import channel_groups
from coldpress.surgery.channels import remove_channels
from coldpress.surgery.retention import atom_importance
from record import Record, arguments, spread, task_of

Floats = NDArray[np.float64]
Choice = tuple[int, ...]
"""Atoms that go."""

TOGETHER = "all together"
METHODS = ("QAOA", "exact", "magnitude", "random")


def energies(task: cp.Task, groups: Sequence[ChannelGroup], images: int, seed: int) -> dict[str, tuple[Floats, Floats]]:
    """The Fisher energy of each group's atoms: linear ``(atoms,)`` and factor ``(atoms, rank)``."""
    inputs, _ = task.calibration(images)
    gradients = mask_gradients(task.model, inputs, groups, seed=seed).double().numpy()
    found, first = {}, 0
    for group in groups:
        own = gradients[:, first : first + group.channels]
        first += group.channels
        found[group.name] = fisher_energy(own.reshape(len(own), -1, group.atom).sum(axis=2))
    return found


def energy_of(energy: tuple[Floats, Floats], gone: Choice) -> float:
    """Of atoms that go, in nats."""
    linear, factor = energy
    return float(linear[list(gone)].sum() + 0.5 * np.square(factor[list(gone)].sum(axis=0)).sum())


def exact(energy: tuple[Floats, Floats], count: int) -> Choice:
    """The choice of least energy among all of so many atoms."""
    linear, factor = energy
    matrix = np.diag(linear) + 0.5 * factor @ factor.T
    every = np.array(list(itertools.combinations(range(len(linear)), count)))
    totals = sum(matrix[every[:, i], every[:, j]] for i in range(count) for j in range(count))
    return tuple(every[int(np.argmin(totals))].tolist())


def chosen(
    method: str,
    model: nn.Module,
    group: ChannelGroup,
    energy: tuple[Floats, Floats],
    count: int,
    seed: int,
    layers: int,
) -> tuple[Choice, dict[str, Any]]:
    """The atoms of a group that go, and what QAOA says of itself."""
    atoms = group.channels // group.atom
    if method == "QAOA":
        how = {"num_layers": layers, "warm_start": "relaxation"}
        found = least_subset(*energy, count, QAOASampler(), how, seed=seed)
        told = {"in_count": found.in_count, "ground_probability": found.info["ground_probability"]}
        return tuple(np.flatnonzero(found.gone).tolist()), told
    if method == "exact":
        return exact(energy, count), {}
    if method == "magnitude":
        return tuple(atom_importance(model, group).argsort()[:count].tolist()), {}
    return tuple(np.random.default_rng([seed, *group.name.encode()]).permutation(atoms)[:count].tolist()), {}


def without(model: nn.Module, groups: Sequence[ChannelGroup], gone: Mapping[str, Choice]) -> nn.Module:
    """The model without these atoms, nothing else changed."""
    removal = []
    for group in groups:
        stay = np.setdiff1d(np.arange(group.channels // group.atom), gone[group.name])
        removal.append((group, (stay[:, None] * group.atom + np.arange(group.atom)).ravel()))
    student = copy.deepcopy(model)
    remove_channels(student, removal)
    return student


def measure(record: Record, task: cp.Task, seed: int, args: Any) -> None:
    """All rows of a seed that are missing."""
    groups = [
        group
        for group in channel_groups(task.model, task.example_inputs)[0].values()
        if group.channels // group.atom == args.channels
    ]
    if not groups:
        raise SystemExit(f"{args.model} has no group of {args.channels} channels: give --channels")
    order = torch.randperm(len(task.data("test")), generator=torch.Generator().manual_seed(0))
    data = task.data("test").subset(order[: args.images])

    def judged(model: nn.Module) -> Evaluation:
        return evaluate(predictor(model), read_batches(data, 64), task.loss)

    whole, known = judged(task.model), energies(task, groups, args.calibration, seed)
    for share, method in itertools.product(args.sparsities, METHODS):
        count = round(share * args.channels)
        gone: dict[str, Choice] = {}
        told: dict[str, dict[str, Any]] = {}
        for place in (*groups, None):
            name = place.name if place else TOGETHER
            if all(record.has(group=n, method=method, sparsity=share, seed=seed) for n in (name, TOGETHER)):
                continue
            start = time.perf_counter()
            if place:
                gone[name], told[name] = chosen(method, task.model, place, known[name], count, seed, args.num_layers)
            seconds = time.perf_counter() - start
            here = [place] if place else groups
            found = judged(without(task.model, here, gone))
            record.add(
                group=name,
                method=method,
                sparsity=share,
                seed=seed,
                energy=sum(energy_of(known[group.name], gone[group.name]) for group in here),
                loss_increase=found.loss - whole.loss,
                original=whole.accuracy,
                accuracy=found.accuracy,
                images=whole.samples,
                seconds=seconds,
                **told.get(name, {}),
            )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Means over seeds, with the least and the most, as Markdown."""
    lines = [
        "| group | go | method | seeds | energy, nats | loss grows by | accuracy without training, % (whole) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, share, method in dict.fromkeys((row["group"], row["sparsity"], row["method"]) for row in rows):
        own = [row for row in rows if (row["group"], row["sparsity"], row["method"]) == (name, share, method)]
        cells = [spread([row[key] for row in own], 4) for key in ("energy", "loss_increase")]
        accuracy = spread([100 * row["accuracy"] for row in own])
        whole = spread([100 * row["original"] for row in own])
        lines.append(
            f"| {name} | {share:.0%} | {method} | {len(own)} | {cells[0]} | {cells[1]} | {accuracy} ({whole}) |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--sparsities", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--channels", type=int, default=16, help="of the groups that are taken, 20 at most")
    parser.add_argument("--num-layers", type=int, default=3, help="p of QAOA")
    parser.add_argument("--calibration", type=int, default=256, help="images of the energy")
    parser.add_argument("--images", type=int, default=1000, help="of the test data, on which harm is measured")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    record = Record(args, "group", "method", "sparsity", "seed")
    for seed in args.seeds:
        measure(record, task_of(args, seed), seed, args)
    record.show(table(record.rows))


if __name__ == "__main__":
    main()
