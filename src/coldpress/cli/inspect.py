"""The command line of what can be decided in a model: `coldpress inspect`."""

from __future__ import annotations

from typing import Annotated

import typer

from coldpress.commands import options
from coldpress.recipe import KINDS, Recipe


def inspect(
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    num_classes: options.Classes = None,
    input_shape: Annotated[
        str | None, typer.Option(help="of one sample, 3,224,224 say; where no data is given and the name says nothing")
    ] = None,
    units: Annotated[str, typer.Option(help="kinds to look for")] = ",".join(KINDS),
    latency: Annotated[bool, typer.Option("--latency", help="measure the layers too (minutes the first time)")] = False,
    every: Annotated[bool, typer.Option("--options", help="one line for every option")] = False,
    threads: options.Threads = None,
    batch: options.Batch = None,
    ignore: options.Ignore = None,
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
        units=options.names(units) or (),
        threads=threads or Recipe.threads,
        batch=batch or Recipe.batch,
        ignored_layers=tuple(ignore or ()),
    )
    command.run(recipe, _numbers(input_shape), latency, every)


def _numbers(text: str | None) -> tuple[int, ...] | None:
    from coldpress.errors import TaskError

    try:
        return None if text is None else tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError as error:
        raise TaskError(f"--input-shape is {text!r}; write sizes with commas, 3,224,224 say") from error
