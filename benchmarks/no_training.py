"""Heads, neurons and channels removed without a training step: coldpress beside magnitude and Fisher scores.

    python benchmarks/no_training.py --model hf:DIR/minilm-sst2 --data DIR/sst2 --macs 0.5 0.3 --out FILE

``coldpress`` decides widths by the curvature energy and re-fits; ``Fisher, single units`` is `--energy fisher`, with
the re-fit. The others remove whole atoms (a head, a neuron, a channel) and change no other weight: ``uniform
magnitude`` the same share of every group, its smallest weights; ``Fisher alone`` over all groups those of least squared
gradient of their masks for the MACs that they save. All keep at most the MACs asked for; test data decide nothing.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import coldpress as cp
from coldpress.energy.fisher import mask_gradients
from coldpress.evaluate import compare
from coldpress.plan import ChannelGroup
from coldpress.space import channel_groups
from coldpress.space.layers import count_macs
from coldpress.surgery.channels import remove_channels
from record import Record, arguments, spread, task_of

Floats = NDArray[np.float64]
SEARCH = 12  # halvings of a threshold


def magnitude(model: nn.Module, group: ChannelGroup) -> Floats:
    """Squared weights that go with each atom, ``(atoms,)``."""
    found = np.zeros(group.channels)
    for member in group.members:
        weight = getattr(model.get_submodule(member.module), "weight", None)
        if weight is None or weight.dim() < 2 or member.role == "channel":
            continue
        rows = (
            weight.detach().double().flatten(1)
            if member.role == "out"
            else weight.detach().double().transpose(0, 1).flatten(1)
        )
        found += rows.square().sum(dim=1).numpy()[member.index].sum(axis=1)
    return found.reshape(-1, group.atom).sum(axis=1)


def without(task: cp.Task, groups: Sequence[ChannelGroup], gone: Sequence[NDArray[np.bool_]]) -> nn.Module:
    """The model without these atoms, nothing else changed; every group keeps one."""
    removal = []
    for group, lost in zip(groups, gone):
        stay = np.flatnonzero(~lost) if not lost.all() else np.zeros(1, dtype=np.int64)
        removal.append((group, (stay[:, None] * group.atom + np.arange(group.atom)).ravel()))
    model = copy.deepcopy(task.model)
    remove_channels(model, removal)
    return model


def largest(task: cp.Task, most: float, make: Callable[[float], nn.Module]) -> nn.Module:
    """The model of the least strength, in [0, 1], whose MACs are at most ``most``."""
    low, high, best = 0.0, 1.0, make(1.0)
    for _ in range(SEARCH):
        middle = (low + high) / 2
        model = make(middle)
        if count_macs(model, task.example_inputs) <= most:
            high, best = middle, model
        else:
            low = middle
    return best


def uniform_magnitude(task: cp.Task, most: float, args: argparse.Namespace, seed: int) -> nn.Module:
    """The same share of every group goes, its atoms of the smallest weights."""
    groups = list(channel_groups(task.model, task.example_inputs, task.ignored_layers)[0].values())
    ranks = [np.argsort(np.argsort(magnitude(task.model, group))) for group in groups]
    return largest(task, most, lambda share: without(task, groups, [rank < round(share * len(rank)) for rank in ranks]))


def fisher_alone(task: cp.Task, most: float, args: argparse.Namespace, seed: int) -> nn.Module:
    """Over all groups, the atoms of least Fisher information for the MACs that one of them saves."""
    groups = list(channel_groups(task.model, task.example_inputs, task.ignored_layers)[0].values())
    inputs, _ = task.calibration(args.calibration)
    gradients = mask_gradients(task.model, inputs, groups, seed=seed).double().numpy()
    whole, scores, start = count_macs(task.model, task.example_inputs), list[Floats](), 0
    for group in groups:
        own = gradients[:, start : start + group.channels].reshape(len(gradients), -1, group.atom).sum(axis=2)
        start += group.channels
        first = [np.arange(other.channels // other.atom) == (0 if other is group else -1) for other in groups]
        saved = whole - count_macs(without(task, groups, first), task.example_inputs)
        scores.append(np.square(own).sum(axis=0) / max(saved, 1))
    every = np.sort(np.concatenate(scores))

    def at(share: float) -> nn.Module:
        bound = every[min(round(share * len(every)), len(every) - 1)]
        return without(task, groups, [score < bound for score in scores])

    return largest(task, most, at)


def own(**settings: Any) -> Callable[[cp.Task, float, argparse.Namespace, int], nn.Module]:
    """Our ways, by the settings of `coldpress.compress`."""

    def make(task: cp.Task, most: float, args: argparse.Namespace, seed: int) -> nn.Module:
        budget = cp.Budget(macs=most)
        return cp.compress(
            task, budget, units=("width",), epochs=0, seed=seed, calibration=args.calibration,
            refit_images=args.refit_images, refit_plans=0, measurements=args.measurements, **settings,
        ).model  # fmt: skip

    return make


METHODS: dict[str, Callable[[cp.Task, float, argparse.Namespace, int], nn.Module]] = {
    "coldpress": own(),
    "Fisher, single units, re-fitted": own(energy="fisher"),
    "Fisher alone": fisher_alone,
    "uniform magnitude": uniform_magnitude,
}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--macs", type=float, nargs="+", default=[0.5, 0.3], help="shares of the original's")
    parser.add_argument("--calibration", type=int, default=256)
    parser.add_argument("--refit-images", type=int, default=1024)
    parser.add_argument("--only", nargs="*", choices=METHODS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    record = Record(args, "method", "asked", "seed")
    for seed in args.seeds:
        task = task_of(args, seed)
        original, whole = task.evaluate(task.model, "test"), count_macs(task.model, task.example_inputs)
        for asked in args.macs:
            for name, make in METHODS.items():
                if (args.only and name not in args.only) or record.has(method=name, asked=asked, seed=seed):
                    continue
                torch.manual_seed(seed)
                start = time.perf_counter()
                model = make(task, asked * whole, args, seed)
                seconds = time.perf_counter() - start
                found = task.evaluate(model, "test")
                change = compare(original, found)
                record.add(
                    method=name,
                    asked=asked,
                    seed=seed,
                    macs=count_macs(model, task.example_inputs) / whole,
                    parameters=sum(p.numel() for p in model.parameters()),
                    original=original.accuracy,
                    accuracy=found.accuracy,
                    interval=list(found.accuracy_interval),
                    difference_interval=list(change.difference_interval),
                    seconds=seconds,
                )
    record.show(table(record.rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, with the smallest and the largest, as Markdown."""
    lines = ["| MACs asked for | method | seeds | MACs | original | without training |", "|---|---|---|---|---|---|"]
    for asked, name in dict.fromkeys((row["asked"], row["method"]) for row in rows):
        own_rows = [row for row in rows if (row["asked"], row["method"]) == (asked, name)]
        cells = [
            spread([100 * row[key] for row in own_rows], digits)
            for key, digits in (("macs", 1), ("original", 2), ("accuracy", 2))
        ]
        lines.append(f"| {asked:.0%} | {name} | {len(own_rows)} | {cells[0]} % | {cells[1]} | {cells[2]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
