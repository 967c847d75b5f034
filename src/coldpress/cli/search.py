"""The command line of searches: `coldpress search` and `coldpress worker`."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from coldpress.commands import options
from coldpress.recipe import Recipe

Study = Annotated[str, typer.Option(help="name of the study within the storage")]
Timeout = Annotated[float | None, typer.Option(help="seconds after which no new trial is begun")]


def search(
    model: options.Model = None,
    weights: options.Weights = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    num_classes: options.Classes = None,
    budget: options.Budget = None,
    units: options.Units = None,
    int8: options.Int8 = None,
    sampler: Annotated[
        str,
        typer.Option(
            help="qiea, tpe, nsga2, random, cmaes, gp, or package.module.Class; legacy: the published rule, one angle "
            "for all units, of each the first or the middle option (to the letter, 0.10 or 0.25 in five iterations, it "
            "is in coldpress reproduce edge-pruning)"
        ),
    ] = "qiea",
    n_trials: Annotated[int, typer.Option(help="trials in all, those of earlier runs counted")] = 100,
    objectives: Annotated[
        str, typer.Option(help="one or more of fitness, accuracy, kl, latency, size (or bytes), macs, comma-separated")
    ] = "fitness",
    fitness: Annotated[
        str, typer.Option(help="weights of error, latency and size; then ms and MB that the last two are divided by")
    ] = "0.7,0.2,0.1,200,300",
    images: Annotated[int, typer.Option(help="samples of train that a trial is judged on")] = 512,
    rungs: Annotated[int, typer.Option(help="parts they come in: a trial that falls behind is stopped; 1: never")] = 4,
    options_each: Annotated[int, typer.Option("--options", help="options each unit is offered at most; 0: all")] = 0,
    storage: Annotated[str, typer.Option(help="a journal file, or the URL of a database for many machines")] = (
        "coldpress-search.log"
    ),
    study_name: Study = "coldpress",
    workers: Annotated[int, typer.Option(help="processes on this machine")] = 1,
    timeout: Timeout = None,
    plan: Annotated[Path | None, typer.Option(help="plan.json to try first: a solver's, say")] = None,
    trials_out: Annotated[Path | None, typer.Option(help="write every trial to this .csv or .json file")] = None,
    epochs: options.Epochs = None,
    lr: options.Rate = None,
    optimizer: options.Optimizer = None,
    batch_size: options.StepSize = None,
    temperature: options.Temperature = None,
    distil_weight: options.DistilWeight = None,
    mixup: options.Mixup = None,
    hint_weight: options.HintWeight = None,
    attention_weight: options.AttentionWeight = None,
    refit_images: options.RefitImages = None,
    measure_seconds: options.MeasureSeconds = None,
    threads: options.Threads = None,
    batch: options.Batch = None,
    tokens: options.Tokens = None,
    device: options.DeviceName = None,
    memory: options.Memory = None,
    seed: options.GivenSeed = None,
    ignore: options.Ignore = None,
    out: options.Out = None,
    best: Annotated[int, typer.Option(help="plans that are carried out, into OUT, OUT-2, OUT-3 and so on")] = 1,
    overwrite: options.Overwrite = False,
) -> None:
    """Try plans out on data, as an Optuna study; with --out the best goes through surgery, re-fit and recovery.

    A limit of the budget is a constraint. A search that is stopped goes on with the same command; others may join it
    with coldpress worker. Any plan can be compared with a solver's: give that one with --plan.

    Example: [bold]coldpress search --model cifar_resnet20 --weights FILE --data cifar10-jpeg --data-dir DIR
    --budget macs=50% --objectives kl --n-trials 200 --storage journal.log --out run[/bold]
    """
    flags: dict[str, Any] = dict(locals())
    from coldpress.commands import search as command
    from coldpress.errors import SearchError
    from coldpress.search.objective import SearchSettings

    flags |= {"budget": budget or None, "units": options.names(units), "ignored_layers": ignore or None}
    names = {field.name for field in fields(Recipe)}
    recipe = Recipe().changed({name: value for name, value in flags.items() if name in names and value is not None})
    try:
        numbers = [float(part) for part in fitness.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 5:
        raise SearchError(f"--fitness is {fitness!r}; write five numbers, 0.7,0.2,0.1,200,300 say")
    settings = SearchSettings(
        sampler=sampler,
        objectives=options.names(objectives) or (),
        weights=(numbers[0], numbers[1], numbers[2]),
        norms=(numbers[3], numbers[4]),
        images=images,
        rungs=rungs,
        options=options_each,
        seed=recipe.seed,
    )
    command.run(
        recipe,
        settings,
        storage=storage,
        name=study_name,
        trials=n_trials,
        workers=workers,
        timeout=timeout,
        plan=plan,
        log=trials_out,
        folder=out,
        count=best,
        overwrite=overwrite,
    )


def worker(
    storage: Annotated[str, typer.Argument(help="the journal file or database URL of the study")],
    study_name: Study = "coldpress",
    model: Annotated[str | None, typer.Option(help="the model's name here: hf:FOLDER or file.py:factory")] = None,
    weights: Annotated[str | None, typer.Option(help="where the weights lie on this machine")] = None,
    data: Annotated[
        str | None, typer.Option(help="the data's name here: folder:PATH, tsv:train=FILE,... or so")
    ] = None,
    data_dir: Annotated[str | None, typer.Option(help="where the data lies on this machine")] = None,
    timeout: Timeout = None,
) -> None:
    """Take part in a search that was started elsewhere, until no trial is left.

    Files are looked for where the search found them; where they lie elsewhere, say so. Others than the search's are
    refused.

    Example: [bold]coldpress worker journal.log --study-name coldpress --model hf:/here/bert --data /here/texts[/bold]
    """
    from coldpress.commands import search as command

    given = {"model": model, "weights": weights, "data": data, "data_dir": data_dir}
    command.join(storage, study_name, timeout, {name: value for name, value in given.items() if value is not None})
