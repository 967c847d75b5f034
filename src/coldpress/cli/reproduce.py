"""The command line of published systems: `coldpress reproduce edge-pruning`, `... aqc` and `... qianets`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldpress.commands import options
from coldpress.recipe import Recipe

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

SCALE = "tiny, short or paper: how many evaluations, seeds, seconds and epochs"


@app.callback()
def reproduce() -> None:
    """Carry out a published system on a model and data, as it was published, and others beside it.

    Example: [bold]coldpress reproduce aqc --model cifar_resnet20 --weights FILE --data cifar10-jpeg --data-dir DIR
    --rate 0.5 --scale short --out results[/bold]
    """


@app.command()
def edge_pruning(
    model: options.Model = "hf:distilbert-base-uncased-finetuned-sst-2-english",
    weights: options.Weights = None,
    data: options.Data = "hf:glue/sst2",
    data_dir: options.DataDir = None,
    scale: Annotated[str, typer.Option(help=SCALE)] = "short",
    seed: options.Seed = 0,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Masks of transformers by a q-bit search: as published, and corrected, side by side.

    A run that was stopped goes on with the rows that are missing when the same command is given again.

    Example: [bold]coldpress reproduce edge-pruning --model hf:FOLDER --data TEXTS --scale short --out results[/bold]
    """
    from coldpress.commands import reproduce_edge_pruning as command

    recipe = Recipe(model=model, weights=weights, data=data, data_dir=data_dir, seed=seed)
    command.run(recipe, scale, _place(out), overwrite, {})


@app.command()
def aqc(
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    num_classes: options.Classes = None,
    rate: Annotated[float, typer.Option(help="share of the weights' bits that is saved at least, in (0, 1)")] = 0.5,
    code: Annotated[
        str,
        typer.Option(help="of bits: cut, 8 to 2 in steps of 1, 2 and 3; or binary, 8 to 5 in 1 and 2, as published"),
    ] = "cut",
    scale: Annotated[str, typer.Option(help=SCALE)] = "short",
    solvers: Annotated[
        str | None, typer.Option(help="solvers and samplers of this machine, comma-separated; the paper's by default")
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="seconds of every solver; the scale's by default")] = None,
    epochs: Annotated[int | None, typer.Option(help="of training on the grids; the scale's by default")] = None,
    ignore: options.Ignore = None,
    seed: options.Seed = 0,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Filters and bits of a network as a QUBO: one model, many solvers, equal time, and what it is worth.

    Nothing runs on quantum hardware; a mock of it is called one. A run that was stopped goes on with the solvers that
    are missing when the same command is given again.

    Example: [bold]coldpress reproduce aqc --model cifar_resnet20 --weights FILE --data cifar10-jpeg --data-dir DIR
    --rate 0.5 --scale short --out results[/bold]
    """
    from coldpress.commands import reproduce_aqc as command

    recipe = Recipe(
        model=model,
        weights=weights,
        data=data,
        data_dir=data_dir,
        num_classes=num_classes,
        ignored_layers=tuple(ignore or ()),
        seed=seed,
    )
    changes = {"seconds": time_limit, "epochs": epochs}
    changes = {name: value for name, value in changes.items() if value is not None}
    command.run(recipe, rate, code, scale, changes, options.names(solvers), _place(out), overwrite)


@app.command()
def qianets(
    data: options.Data = "cifar10",
    data_dir: options.DataDir = None,
    networks: Annotated[
        str | None, typer.Option(help="of resnet18, googlenet, densenet121, comma-separated; all by default")
    ] = None,
    scale: Annotated[str, typer.Option(help=SCALE)] = "short",
    images: Annotated[int | None, typer.Option(help="to train on; the scale's by default")] = None,
    epochs: Annotated[int | None, typer.Option(help="of every row after the baseline; the scale's by default")] = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Pruning, decomposition, attention and search of three CNNs: as published, corrected, and our own plans.

    Baselines are trained first, and a control goes on from each for as many epochs as every row has. A run that was
    stopped goes on with the rows that are missing when the same command is given again.

    Example: [bold]coldpress reproduce qianets --data cifar10-jpeg --data-dir DIR --networks resnet18 --out
    results[/bold]
    """
    from coldpress.commands import reproduce_qianets as command

    recipe = Recipe(data=data, data_dir=data_dir)
    changes = {"images": images, "final_epochs": epochs}
    changes = {name: value for name, value in changes.items() if value is not None}
    command.run(recipe, options.names(networks), scale, changes, _place(out), overwrite)


def _place(out: Path | None) -> Path:
    from coldpress.errors import TaskError

    if out is None:
        raise TaskError("no place for the results: give --out FOLDER")
    return out
