"""Channels pruned without (and with) training: coldpress beside uniform L1 and Torch-Pruning, same checkpoint and MACs.

    python benchmarks/one_shot.py --model cifar_resnet20 --weights W --data-dir DIR --macs 0.5 --epochs 0

Writes one JSON file and prints a table. Every method ends at or below the same MACs; fine-tuning is the same
distillation for all, and a control is the original trained on for the same epochs by the same recipe.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch_pruning as tp
from torch import nn

import coldpress as cp
from coldpress.artifact import read_plan
from coldpress.plan import Plan
from coldpress.recovery import distil, recalibrate, stream_inputs
from coldpress.space import channel_groups
from coldpress.space.layers import layer_shapes
from coldpress.steps import training_settings
from record import Record, arguments, run_name, spread, task_of, training_flags, training_recipe

CONTROL = "control: the original trained on"


def macs_of(model: nn.Module, task: cp.Task) -> int:
    return sum(shape.macs for shape in layer_shapes(model, task.example_inputs).values())


def stream_layers(model: nn.Module) -> list[nn.Module]:
    """Layers whose outputs are no inner channels: torch-pruning leaves them alone, as coldpress' groups do here."""
    inner = {group.name for group in channel_groups(model, (torch.zeros(1, 3, 32, 32),))[0].values()}
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [module for name, module in layers if name not in inner]


def by_torch_pruning(task: cp.Task, fraction: float, importance: Callable[[], Any], uniform: bool) -> nn.Module:
    """Torch-Pruning's result nearest below the MACs asked for, by bisection on its ratio."""
    original = macs_of(task.model, task)
    low, high, best = 0.0, 0.95, None
    inputs, labels = task.calibration(256)
    for _ in range(12):
        ratio = (low + high) / 2
        model = copy.deepcopy(task.model).train(False)
        score = importance()
        pruner = tp.pruner.BasePruner(
            model,
            task.example_inputs[0],
            importance=score,
            global_pruning=not uniform,
            pruning_ratio=ratio,
            max_pruning_ratio=0.95,
            ignored_layers=stream_layers(model),
        )
        if isinstance(score, tp.importance.TaylorImportance):
            model.zero_grad()
            nn.functional.cross_entropy(model(*inputs), labels).backward()
        if isinstance(score, tp.importance.HessianImportance):
            score.zero_grad()
            losses = nn.functional.cross_entropy(model(*[x[:64] for x in inputs]), labels[:64], reduction="none")
            for loss in losses:
                model.zero_grad()
                loss.backward(retain_graph=True)
                score.accumulate_grad(model)
        pruner.step()
        if macs_of(model, task) <= fraction * original:
            high, best = ratio, model
        else:
            low = ratio
    assert best is not None
    best.zero_grad(set_to_none=True)
    return best


def methods(args: argparse.Namespace) -> dict[str, Callable[[cp.Task, int], nn.Module]]:
    """How each method makes its network, by name."""
    fraction = args.macs

    def own(names: tuple[str, ...]) -> Callable[[cp.Task, int], nn.Module]:
        def make(task: cp.Task, seed: int) -> nn.Module:
            folder = folder_of(args, names, seed)
            if folder.exists():
                return cp.load(folder, lambda: cp.zoo.model(args.model))
            budget = cp.Budget(macs=f"{100 * fraction:g}%")
            return cp.compress(task, budget, units=names, epochs=0, seed=seed, refit_plans=0, out=folder).model

        return make

    def other(importance: Callable[[], Any], uniform: bool) -> Callable[[cp.Task, int], nn.Module]:
        return lambda task, seed: by_torch_pruning(task, fraction, importance, uniform)

    return {
        **{name: own(names) for name, names in units_of(args).items()},
        "uniform L1": other(lambda: tp.importance.MagnitudeImportance(p=1), True),
        "Torch-Pruning magnitude L2, global": other(lambda: tp.importance.MagnitudeImportance(p=2), False),
        "Torch-Pruning Taylor, global": other(lambda: tp.importance.TaylorImportance(), False),
        "Torch-Pruning Hessian, global": other(lambda: tp.importance.HessianImportance(), False),
    }


def units_of(args: argparse.Namespace) -> dict[str, tuple[str, ...]]:
    """What coldpress decides, by the names of its methods."""
    return {"coldpress": tuple(args.units.split(",")), "coldpress, widths only": ("width",)}


def folder_of(args: argparse.Namespace, names: tuple[str, ...], seed: int) -> Path:
    """Where coldpress' network is kept."""
    return Path(args.runs) / f"{run_name(args)}-{args.macs:g}-{'-'.join(names)}-{seed}"


def hints_of(args: argparse.Namespace, task: cp.Task, name: str, seed: int) -> dict[str, torch.Tensor]:
    """The residual streams that a network is taught by: the control's are whole; other methods' are not known."""
    own = units_of(args)
    if not args.hint_weight or name not in (CONTROL, *own):
        return {}
    plan = read_plan(folder_of(args, own[name], seed)) if name in own else Plan()
    return stream_inputs(cp.find_space(task, own.get(name, own["coldpress"])), plan)


def judge(task: cp.Task, model: nn.Module) -> dict[str, Any]:
    found = task.evaluate(model, "test")
    return {"accuracy": found.accuracy, "interval": list(found.accuracy_interval)}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--macs", type=float, default=0.5, help="share of the original's MACs to keep")
    parser.set_defaults(units="width,rank,depth")
    training_flags(parser, epochs=0)
    parser.add_argument("--runs", default="runs", help="folder for coldpress' networks: those that are there are taken")
    parser.add_argument("--only", nargs="*", help="names of methods; all by default")
    parser.add_argument("--hint-weight", type=float, help="of coldpress' networks and the control")
    parser.add_argument("--no-control", action="store_true")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    record = Record(args, "method", "seed")
    for seed in args.seeds:
        task = task_of(args, seed)
        recipe = cp.Recipe(seed=seed, **training_recipe(args))

        def trained(student: nn.Module, name: str, task: cp.Task = task, recipe: cp.Recipe = recipe) -> dict[str, Any]:
            if not args.epochs:
                return {}
            distil(
                student,
                task.model,
                task,
                training_settings(recipe),
                temperature=recipe.temperature,
                weight=recipe.distil_weight,
                hints=hints_of(args, task, name, recipe.seed),
                hint_weight=recipe.hint_weight,
            )
            return {"after": judge(task, student)}

        if not record.has(method="original", seed=seed):
            record.add(method="original", seed=seed, macs=1.0, before=judge(task, task.model))
        if args.epochs and not args.no_control and not record.has(method=CONTROL, seed=seed):
            record.add(method=CONTROL, seed=seed, macs=1.0, **trained(copy.deepcopy(task.model), CONTROL))
        for name, make in methods(args).items():
            if (args.only and name not in args.only) or record.has(method=name, seed=seed):
                continue
            start = time.perf_counter()
            torch.manual_seed(seed)
            student = make(task, seed)
            row: dict[str, Any] = {
                "method": name,
                "seed": seed,
                "macs": macs_of(student, task) / macs_of(task.model, task),
                "parameters": sum(p.numel() for p in student.parameters()),
                "seconds": time.perf_counter() - start,
                "before": judge(task, student),
            }
            renewed = copy.deepcopy(student)
            recalibrate(renewed, task.calibration(1024)[0])
            row["recalibrated"] = judge(task, renewed)
            record.add(**row, **trained(student, name))
    record.show(table(record.rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, with the smallest and the largest, as Markdown."""
    lines = [
        "| method | seeds | MACs | no training | BatchNorm recalibrated | after training |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        cells = [
            spread([100 * row[k]["accuracy"] for row in own if k in row]) for k in ("before", "recalibrated", "after")
        ]
        macs = spread([100 * row["macs"] for row in own], 1)
        lines.append(f"| {name} | {len(own)} | {macs} % | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
