"""The command line of compression: `coldpress demo` and `coldpress compress`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from coldpress.commands import options
from coldpress.recipe import Recipe


def demo(
    out: Annotated[Path, typer.Option(help="folder of the result")] = Path("coldpress-demo"),
    seed: options.Seed = 0,
) -> None:
    """Compress the model that comes along to a fifth of its latency, in a few minutes.

    Example: [bold]coldpress demo --out coldpress-demo[/bold]
    """
    from coldpress.commands import compress as command

    command.demo(out, seed)


def compress(
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    num_classes: options.Classes = None,
    budget: options.Budget = None,
    max_accuracy_drop: options.Drop = None,
    objective: options.Objective = None,
    plan: options.PlanFile = None,
    preset: options.Preset = None,
    sparsity: options.Sparsity = None,
    rank: options.Rank = None,
    entanglement: options.Entanglement = None,
    stages: options.Stages = None,
    eca_kernel: options.ECAKernel = None,
    retention_units: options.RetentionUnits = None,
    solver: options.Solver = None,
    energy: options.Energy = None,
    units: options.Units = None,
    int8: options.Int8 = None,
    epochs: options.Epochs = None,
    lr: options.Rate = None,
    optimizer: options.Optimizer = None,
    schedule: options.Schedule = None,
    weight_decay: options.WeightDecay = None,
    batch_size: options.StepSize = None,
    temperature: options.Temperature = None,
    distil_weight: options.DistilWeight = None,
    mixup: options.Mixup = None,
    hint_weight: options.HintWeight = None,
    attention_weight: options.AttentionWeight = None,
    calibration: options.Calibration = None,
    refit_images: options.RefitImages = None,
    random_plans: options.RandomPlans = None,
    refit_plans: options.RefitPlans = None,
    rounds: options.Rounds = None,
    time_limit: options.TimeLimit = None,
    threads: options.Threads = None,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    device: options.DeviceName = None,
    memory: options.Memory = None,
    measure_seconds: options.MeasureSeconds = None,
    seed: options.GivenSeed = None,
    ignore: options.Ignore = None,
    recipe: options.RecipeFile = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
    measurements: options.Measurements = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="plan and predict only; nothing is written")] = False,
) -> None:
    """Make a trained model smaller and faster within a budget, recover its accuracy, and prove the result.

    A run that was stopped goes on from its last finished step when the same command is given again.

    Example: [bold]coldpress compress --model cifar_resnet56 --weights FILE --data cifar10-jpeg --data-dir DIR
    --budget latency=40% --budget size=2MB --out run[/bold]

    Again with the same settings: [bold]coldpress compress --recipe run/recipe.yaml --out run2[/bold]

    Several budgets, measured once: [bold]--measurements measured[/bold] in each of their commands
    """
    flags: dict[str, Any] = dict(locals())  # those of a recipe's names are its fields
    from coldpress.commands import compress as command

    flags |= {"choices": None if plan is None else command.read_choices(plan)}
    flags |= {"budget": budget or None, "units": options.names(units), "ignored_layers": ignore or None}
    settings = {field.name for field in fields(Recipe)}
    asked = Recipe.read(recipe) if recipe is not None else Recipe()
    asked = asked.changed({name: value for name, value in flags.items() if name in settings and value is not None})
    command.run(asked, out, overwrite, dry_run, measurements)
