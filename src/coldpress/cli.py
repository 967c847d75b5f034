"""The command line: names and options; what they do is in `coldpress.commands`.

Nothing here imports torch, so that ``--help`` answers at once.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from coldpress import cli_benchmark, cli_evaluate, cli_reproduce, cli_round, cli_search
from coldpress.commands import options
from coldpress.commands.terminal import Guarded, start_logging
from coldpress.memory import keep_freed_memory
from coldpress.recipe import KINDS, Recipe

app = typer.Typer(
    name="coldpress",
    cls=Guarded,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    keep_freed_memory()


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder of the result")] = Path("coldpress-demo"),
    seed: options.Seed = 0,
) -> None:
    """Compress the model that comes along to a fifth of its latency, in a few minutes.

    Example: [bold]coldpress demo --out coldpress-demo[/bold]
    """
    from coldpress.commands import compress as command

    command.demo(out, seed)


@app.command()
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


@app.command()
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


app.command("round")(cli_round.round_weights)
app.command()(cli_search.search)
app.command()(cli_search.worker)
app.add_typer(cli_benchmark.app, name="benchmark")
app.add_typer(cli_reproduce.app, name="reproduce")


@app.command()
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


@app.command()
def solve(
    file: Annotated[Path, typer.Argument(help="a problem: coldpress' or dimod's JSON, a BQM or CQM file, COO text")],
    solver: Annotated[
        str, typer.Option(help=f"{options.SOLVER_NAMES}; samplers: {options.SAMPLER_NAMES}; reads:FILE")
    ] = "auto",
    time_limit: Annotated[float, typer.Option(help="seconds")] = 10.0,
    seed: options.Seed = 0,
    out: Annotated[Path | None, typer.Option(help="write energy, bound, trace and values to this .json")] = None,
    overwrite: options.Overwrite = False,
    num_reads: Annotated[int | None, typer.Option(help="of a sampler")] = None,
    max_variables: Annotated[int | None, typer.Option(help="give a sampler blocks of at most so many")] = None,
    vartype: options.Vartype = None,
) -> None:
    """Solve a problem that stands in a file, ours or anybody's; its answer is computed again from the file.

    Example: [bold]coldpress solve model.cqm --solver exact --time-limit 10 --out answer.json[/bold]
    """
    from coldpress.commands import solve as command

    command.run(file, solver, time_limit, seed, out, overwrite, num_reads, max_variables, vartype)


@app.command()
def embed(
    file: Annotated[Path, typer.Argument(help="a problem: coldpress' or dimod's JSON, a BQM or CQM file, COO text")],
    topology: Annotated[str, typer.Option(help="pegasus (Advantage) or zephyr (Advantage2)")] = "pegasus",
    size: Annotated[int | None, typer.Option(help="of the graph; by default 16 and 12, as the QPUs on line")] = None,
    num_reads: Annotated[int, typer.Option(help="reads that the QPU time is estimated for")] = 100,
    time_limit: Annotated[float, typer.Option(help="seconds of search for an embedding")] = 10.0,
    seed: options.Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    vartype: options.Vartype = None,
) -> None:
    """Say what a problem would take on a QPU (qubits, chains, time) before anything is spent; needs no account.

    Example: [bold]coldpress embed problem.json --topology zephyr --num-reads 1000[/bold]
    """
    from coldpress.commands import embed as command

    command.run(file, topology, size, num_reads, time_limit, seed, as_json, vartype)


app.command()(cli_evaluate.evaluate)


@app.command()
def devices() -> None:
    """List the machines that latency can be modelled for, and how far the model is off on this one.

    Example: [bold]coldpress devices[/bold]
    """
    from coldpress.commands import devices as command

    command.run()


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="an artifact's folder")]) -> None:
    """Write an artifact's report.html anew and print its path.

    Example: [bold]coldpress report run[/bold]
    """
    from coldpress.report import render

    typer.echo(render(folder))
