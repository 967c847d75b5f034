"""The command line: names and options; what they do is in `coldpress.commands`.

Nothing here imports torch, so that ``--help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from coldpress.commands.terminal import Guarded, start_logging
from coldpress.recipe import ENERGIES, KINDS, Recipe

app = typer.Typer(
    name="coldpress",
    cls=Guarded,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[
    str | None,
    typer.Option(
        help="cifar_resnet20/32/44/56, cifar_resnet18, fashion_cnn, torchvision:NAME, timm:NAME, "
        "package.module:factory or file.py:factory"
    ),
]
Weights = Annotated[
    str | None, typer.Option(help=".th, .pt, .pth or .safetensors file; 'pretrained' or 'random' where meant")
]
Data = Annotated[
    str | None, typer.Option(help="fashion-mini (bundled), fashion-mnist, cifar10, cifar10-jpeg, folder:PATH")
]
DataDir = Annotated[str | None, typer.Option(help="where the data's files are; else the environment's COLDPRESS_DATA")]
Classes = Annotated[int | None, typer.Option(help="outputs of the model; the data's classes by default")]
Ignore = Annotated[list[str] | None, typer.Option(help="a module that stays as it is; may be repeated")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="replace --out where it exists")]
Seed = Annotated[int, typer.Option(help="of everything random")]


def _says(field: str, words: str) -> str:
    """Help with the recipe's default."""
    return f"{words} [dim]\\[default: {getattr(Recipe, field)}][/dim]"


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str | None) -> tuple[int, ...] | None:
    from coldpress.errors import TaskError

    try:
        return None if text is None else tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError as error:
        raise TaskError(f"--input-shape is {text!r}; write sizes with commas, 3,224,224 say") from error


@app.callback()
def main(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="show what is logged")] = False,
    version: Annotated[bool, typer.Option("--version", help="print the version and stop", is_eager=True)] = False,
) -> None:
    """Make trained PyTorch models smaller and faster on CPUs, and prove it on the runtime that will serve them.

    Start with: [bold]coldpress demo[/bold]
    """
    if version:
        from coldpress import __version__

        typer.echo(__version__)
        raise typer.Exit
    start_logging(verbose)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder of the result")] = Path("coldpress-demo"),
    seed: Seed = 0,
) -> None:
    """Compress the model that comes along to a fifth of its latency, in a few minutes.

    Example: [bold]coldpress demo --out coldpress-demo[/bold]
    """
    from coldpress.commands import compress as command

    command.demo(out, seed)


@app.command()
def compress(
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    data_dir: DataDir = None,
    num_classes: Classes = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(help="latency=25%, latency=3ms, size=2MB, macs=47% ...; percentages of the original; repeatable"),
    ] = None,
    max_accuracy_drop: Annotated[
        float | None, typer.Option(help="points that may be lost on validation data; alone, the least --objective")
    ] = None,
    objective: Annotated[str | None, typer.Option(help=_says("objective", "latency, size or macs"))] = None,
    solver: Annotated[
        str | None, typer.Option(help=_says("solver", "auto, exact, anneal, relaxation, greedy, random"))
    ] = None,
    energy: Annotated[str | None, typer.Option(help=_says("energy", " or ".join(ENERGIES)))] = None,
    units: Annotated[
        str | None, typer.Option(help=f"what is decided, comma-separated (all of {','.join(KINDS)})")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help=_says("epochs", "of distillation; 0 trains nothing"))] = None,
    lr: Annotated[float | None, typer.Option(help=_says("lr", "highest learning rate"))] = None,
    optimizer: Annotated[str | None, typer.Option(help=_says("optimizer", "sgd or adamw"))] = None,
    batch_size: Annotated[int | None, typer.Option(help=_says("batch_size", "samples a training step"))] = None,
    calibration: Annotated[int | None, typer.Option(help=_says("calibration", "samples for the energy"))] = None,
    random_plans: Annotated[int | None, typer.Option(help=_says("random_plans", "plans that test the energy"))] = None,
    refit_plans: Annotated[
        int | None, typer.Option(help=_says("refit_plans", "of them also measured re-fitted"))
    ] = None,
    rounds: Annotated[int | None, typer.Option(help=_says("rounds", "re-linearisations around the plan"))] = None,
    time_limit: Annotated[float | None, typer.Option(help=_says("time_limit", "seconds for the solver"))] = None,
    threads: Annotated[int | None, typer.Option(help=_says("threads", "at which latency is measured"))] = None,
    batch: Annotated[
        int | None, typer.Option(help=_says("batch", "samples a run at which latency is measured"))
    ] = None,
    measure_seconds: Annotated[
        float | None, typer.Option(help=_says("measure_seconds", "how long layers may be measured"))
    ] = None,
    seed: Annotated[int | None, typer.Option(help=_says("seed", "of everything random"))] = None,
    ignore: Ignore = None,
    recipe: Annotated[Path | None, typer.Option(help="YAML file of these settings; flags override it")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the result")] = None,
    overwrite: Overwrite = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="plan and predict only; nothing is written")] = False,
) -> None:
    """Make a trained model smaller and faster within a budget, recover its accuracy, and prove the result.

    A run that was stopped goes on from its last finished step when the same command is given again.

    Example: [bold]coldpress compress --model cifar_resnet56 --weights FILE --data cifar10-jpeg --data-dir DIR
    --budget latency=40% --budget size=2MB --out run[/bold]

    Again with the same settings: [bold]coldpress compress --recipe run/recipe.yaml --out run2[/bold]
    """
    from coldpress.commands import compress as command

    given: dict[str, Any] = {
        "model": model,
        "weights": weights,
        "data": data,
        "data_dir": data_dir,
        "num_classes": num_classes,
        "budget": tuple(budget) if budget else None,
        "max_accuracy_drop": max_accuracy_drop,
        "objective": objective,
        "solver": solver,
        "energy": energy,
        "units": _names(units),
        "epochs": epochs,
        "lr": lr,
        "optimizer": optimizer,
        "batch_size": batch_size,
        "calibration": calibration,
        "random_plans": random_plans,
        "refit_plans": refit_plans,
        "rounds": rounds,
        "time_limit": time_limit,
        "threads": threads,
        "batch": batch,
        "measure_seconds": measure_seconds,
        "seed": seed,
        "ignored_layers": tuple(ignore) if ignore else None,
    }
    asked = Recipe.read(recipe) if recipe is not None else Recipe()
    asked = asked.changed({name: value for name, value in given.items() if value is not None})
    command.run(asked, out, overwrite, dry_run)


@app.command()
def inspect(
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    data_dir: DataDir = None,
    num_classes: Classes = None,
    input_shape: Annotated[
        str | None, typer.Option(help="of one sample, 3,224,224 say; where no data is given and the name says nothing")
    ] = None,
    units: Annotated[str, typer.Option(help="kinds to look for")] = ",".join(KINDS),
    latency: Annotated[bool, typer.Option("--latency", help="measure the layers too (minutes the first time)")] = False,
    options: Annotated[bool, typer.Option("--options", help="one line for every option")] = False,
    threads: Annotated[int, typer.Option(help="at which latency is measured")] = 1,
    batch: Annotated[int, typer.Option(help="samples a run at which latency is measured")] = 1,
    ignore: Ignore = None,
) -> None:
    """Print what can be decided in a model: units, options, costs, and what is refused and why.

    Example: [bold]coldpress inspect --model cifar_resnet20 --latency[/bold]
    """
    from coldpress.commands import inspect as command

    recipe = Recipe(
        model=model,
        weights=weights,
        data=data,
        data_dir=data_dir,
        num_classes=num_classes,
        units=_names(units) or (),
        threads=threads,
        batch=batch,
        ignored_layers=tuple(ignore or ()),
    )
    command.run(recipe, _numbers(input_shape), latency, options)


@app.command()
def train(
    model: Model = None,
    weights: Annotated[str | None, typer.Option(help="where to start from; random where none")] = None,
    data: Data = None,
    data_dir: DataDir = None,
    num_classes: Classes = None,
    epochs: Annotated[int, typer.Option(help="passes over the training data")] = 20,
    lr: Annotated[float, typer.Option(help="highest learning rate of the cycle")] = 0.1,
    optimizer: Annotated[str, typer.Option(help="sgd or adamw")] = "sgd",
    batch_size: Annotated[int, typer.Option(help="samples a step")] = 128,
    weight_decay: Annotated[float, typer.Option(help="of weights, not of biases and norms")] = 5e-4,
    label_smoothing: Annotated[float, typer.Option(help="in [0, 1)")] = 0.0,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16")] = "auto",
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu or cuda")] = "auto",
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="FILE.safetensors; FILE.json is written beside it")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Train a named model, so that there is something to compress; the best epoch is chosen on validation data.

    Example: [bold]coldpress train --model cifar_resnet20 --weights FILE --data cifar10-jpeg --data-dir DIR
    --epochs 4 --lr 0.05 --out resnet20.safetensors[/bold]
    """
    from coldpress.commands import train as command
    from coldpress.errors import TaskError
    from coldpress.recovery import Settings

    if out is None:
        raise TaskError("no place for the result: give --out FILE.safetensors")
    recipe = Recipe(model=model, weights=weights, data=data, data_dir=data_dir, num_classes=num_classes, seed=seed)
    settings = Settings(
        epochs=epochs,
        optimizer=optimizer,  # type: ignore[arg-type]
        lr=lr,
        batch_size=batch_size,
        weight_decay=weight_decay,
        label_smoothing=label_smoothing,
        seed=seed,
        device=device,
        precision=precision,  # type: ignore[arg-type]
    )
    command.run(recipe, settings, out, overwrite)


@app.command()
def evaluate(
    target: Annotated[
        Path | None, typer.Argument(help="an artifact's folder or an ONNX file; none with --model")
    ] = None,
    form: Annotated[str | None, typer.Option(help="onnx (what is deployed) or torch (the float network)")] = None,
    model: Model = None,
    weights: Weights = None,
    data: Data = None,
    data_dir: DataDir = None,
    num_classes: Classes = None,
    split: Annotated[str, typer.Option(help="test, validation or train")] = "test",
    threads: Annotated[int | None, typer.Option(help="at which latency is measured")] = None,
    batch: Annotated[int | None, typer.Option(help="samples a run at which latency is measured")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print accuracy with its interval, loss and latency of an artifact, an ONNX file or a named model.

    An artifact brings the names of its model and data along; flags override them.

    Example: [bold]coldpress evaluate run --form torch[/bold]
    """
    from coldpress.commands import evaluate as command

    given = {
        "model": model,
        "weights": weights,
        "data": data,
        "data_dir": data_dir,
        "num_classes": num_classes,
        "threads": threads,
        "batch": batch,
    }
    given = {name: value for name, value in given.items() if value is not None}
    command.run(target, form, Recipe().changed(given), frozenset(given), split, as_json)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="an artifact's folder")]) -> None:
    """Write an artifact's report.html anew and print its path.

    Example: [bold]coldpress report run[/bold]
    """
    from coldpress.report import render

    typer.echo(render(folder))
