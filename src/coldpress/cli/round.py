"""The command line of few bits: `coldpress round`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from coldpress.commands import options
from coldpress.recipe import FEW_BITS, Recipe


def _samples(field: str, words: str) -> str:
    return f"{words} [dim]\\[default: {FEW_BITS[field]}][/dim]"


def round_weights(
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    num_classes: options.Classes = None,
    bits: Annotated[int | None, typer.Option(help="of every weight, 2 to 8; or give --average-bits")] = None,
    average_bits: Annotated[
        float | None, typer.Option(help="over all weights, scales included, shared out among the layers; 2.5 say")
    ] = None,
    group_size: Annotated[int | None, typer.Option(help="columns that share a scale; a whole row by default")] = None,
    factors: Annotated[
        str | None,
        typer.Option(
            help="in place of bits: layers become two factors, LEFT,RIGHT (the right one reads the inputs), each "
            "float, ternary, int2 to int8, or 'int8 2:4', annealed; 'float,ternary' say. Only where bytes and "
            "multiplications fall"
        ),
    ] = None,
    rank: Annotated[
        str | None, typer.Option(help="of --factors: N, or by layer energy:0.9 (of squared singular values) or evbmf")
    ] = None,
    calibration: Annotated[int | None, typer.Option(help=_samples("calibration", "samples for the energy"))] = None,
    refit_images: Annotated[
        int | None, typer.Option(help=_samples("refit_images", "samples for the layers' Hessians and the re-fit"))
    ] = None,
    solver: options.Solver = None,
    threads: options.Threads = None,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    seed: options.GivenSeed = None,
    ignore: options.Ignore = None,
    executor: Annotated[
        str, typer.Option(help="none (this process, on all cores), processes, or dask:ADDRESS of a scheduler")
    ] = "none",
    processes: Annotated[int, typer.Option(help="of --executor processes, one thread each")] = 1,
    recipe: options.RecipeFile = None,
    out: options.Out = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Round a trained model's weights to few bits, without training, and prove the result: size, not speed.

    Example: [bold]coldpress round --model cifar_resnet20 --weights FILE --data cifar10-jpeg --data-dir DIR
    --average-bits 2.5 --out few[/bold]
    """
    flags: dict[str, Any] = dict(locals())
    from coldpress.commands import round as command

    flags |= {"ignored_layers": ignore or None}
    flags = {name: value for name, value in flags.items() if value is not None}
    asked = Recipe.read(recipe) if recipe is not None else Recipe().changed(FEW_BITS)
    asked = asked.changed({name: flags[name] for name in Recipe.__dataclass_fields__ if name in flags})
    command.run(asked, out, overwrite, executor, processes)
