"""The command line of evaluation: `coldpress evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldpress.commands import options
from coldpress.recipe import Recipe


def evaluate(
    target: Annotated[
        Path | None, typer.Argument(help="an artifact's folder or an ONNX file; none with --model")
    ] = None,
    form: Annotated[str | None, typer.Option(help="onnx (what is deployed) or torch (the float network)")] = None,
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    num_classes: options.Classes = None,
    split: Annotated[str, typer.Option(help="test, validation or train")] = "test",
    threads: options.Threads = None,
    batch: options.Batch = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="compare with this on the same samples: an artifact's folder, an ONNX file, or a model's name "
            "(one that --model or the artifact names has its weights)"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help=".csv: scores and confusion matrix by class; .json: also ROC points and all predictions"),
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Print accuracy with its interval, loss and latency of an artifact, an ONNX file or a named model.

    With --against, also the difference with paired 95 % intervals and McNemar's exact test.

    An artifact brings the names of its model and data along; flags override them.

    Example: [bold]coldpress evaluate run --form torch[/bold]

    An artifact against its original: [bold]coldpress evaluate run --against cifar_resnet20 --out scores.json[/bold]
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
    command.run(target, form, Recipe().changed(given), frozenset(given), split, as_json, against, out, overwrite)
