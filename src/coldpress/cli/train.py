"""The command line of training: `coldpress train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldpress.commands import options
from coldpress.recipe import Recipe


def train(
    model: options.Model = None,
    weights: Annotated[str | None, typer.Option(help="where to start from; random where none")] = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    num_classes: options.Classes = None,
    tokens: Annotated[int | None, typer.Option(help="tokens in a window of plain text; 128 by default")] = None,
    epochs: Annotated[int, typer.Option(help="passes over the training data")] = 20,
    lr: Annotated[float, typer.Option(help="highest learning rate of the cycle")] = 0.1,
    optimizer: Annotated[str, typer.Option(help="sgd, adamw, adam or muon")] = "sgd",
    batch_size: Annotated[int, typer.Option(help="samples a step")] = 128,
    weight_decay: Annotated[float, typer.Option(help="of weights, not of biases and norms")] = 5e-4,
    label_smoothing: Annotated[float, typer.Option(help="in [0, 1)")] = 0.0,
    hold_out: Annotated[
        bool,
        typer.Option(
            "--hold-out/--no-hold-out",
            help="keep validation data out; without it, learn from it too, keep the last epoch",
        ),
    ] = True,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16")] = "auto",
    device: Annotated[str, typer.Option(help="auto (a GPU where there is one), cpu or cuda")] = "auto",
    seed: options.Seed = 0,
    out: Annotated[Path | None, typer.Option(help="FILE.safetensors; FILE.json is written beside it")] = None,
    overwrite: options.Overwrite = False,
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
    recipe = Recipe(
        model=model,
        weights=weights,
        data=data,
        data_dir=data_dir,
        num_classes=num_classes,
        tokens=tokens,
        seed=seed,
    )
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
    command.run(recipe, settings, out, overwrite, hold_out)
