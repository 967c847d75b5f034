"""The command line: names and options; what they do is in `coldpress.commands`.

Nothing here imports torch, so that ``--help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldpress.cli import (
    benchmark,
    compress,
    evaluate,
    inspect,
    reproduce,
    round,
    search,
    solve,
    train,
)
from coldpress.commands.terminal import Guarded, start_logging
from coldpress.memory import keep_freed_memory

app = typer.Typer(
    name="coldpress",
    cls=Guarded,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


app.command()(compress.demo)
app.command()(compress.compress)
app.command()(inspect.inspect)
app.command("round")(round.round_weights)
app.command()(search.search)
app.command()(search.worker)
app.command()(train.train)
app.command()(solve.solve)
app.command()(solve.embed)
app.command()(evaluate.evaluate)


@app.command()
def devices(
    threads: Annotated[int, typer.Option(min=1, help="of the times that the model is held against")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="samples a run of these times")] = 1,
) -> None:
    """List the machines that latency can be modelled for, and how far the model is off on this one.

    Example: [bold]coldpress devices[/bold]
    """
    from coldpress.commands import devices as command

    command.run(threads, batch)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="an artifact's folder")]) -> None:
    """Write an artifact's report.html anew and print its path.

    Example: [bold]coldpress report run[/bold]
    """
    from coldpress.report import render

    typer.echo(render(folder))


app.add_typer(benchmark.app, name="benchmark")
app.add_typer(reproduce.app, name="reproduce")
