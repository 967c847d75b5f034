"""The command line of benchmarks: `coldpress benchmark solvers`."""

from __future__ import annotations

from typing import Annotated

import typer

from coldpress.commands import options

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Hold algorithms against each other.")


@app.callback()
def benchmark() -> None:
    """Hold algorithms against each other, on problems that are the same for all."""


@app.command()
def solvers(
    families: Annotated[
        str | None, typer.Option(help="kinds of problem, comma-separated; all by default; a wrong name lists them")
    ] = None,
    solvers: Annotated[
        str | None, typer.Option(help="solvers and samplers, comma-separated; by default all that take the problem")
    ] = None,
    seeds: Annotated[int, typer.Option(help="runs of each solver on each instance, seeds 0, 1, ...")] = 10,
    seconds: Annotated[float, typer.Option(help="wall time of a run; what is found later does not count")] = 5.0,
    instances: Annotated[int, typer.Option(help="instances of each seeded family")] = 1,
    within: Annotated[
        float, typer.Option(help="success is an energy at most this share above the best known; 0: that itself")
    ] = 0.001,
    executor: Annotated[
        str, typer.Option(help="processes, none (this one), or dask:ADDRESS of a scheduler")
    ] = "processes",
    processes: Annotated[int, typer.Option(help="at once; not more than idle cores, else times are not true")] = 1,
    out: options.Out = None,
) -> None:
    """Give every solver the same problems, wall time and one thread; write a page, JSON and every single run.

    What a stopped benchmark has finished is not run again when the same command is given again.

    Example: [bold]coldpress benchmark solvers --families qubo-500,resnet20 --seeds 10 --seconds 5 --out results[/bold]
    """
    from coldpress.commands import benchmark as command
    from coldpress.errors import TaskError

    if out is None:
        raise TaskError("no place for the results: give --out FOLDER")
    settings = {"seeds": seeds, "seconds": seconds, "instances": instances, "within": within}
    command.solvers(options.names(families), options.names(solvers), settings, executor, processes, out)
