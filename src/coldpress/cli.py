"""The command line: names and options; what they do is in `coldpress.commands`.

Nothing here imports torch, so that ``--help`` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldpress import (
    cli_benchmark,
    cli_compress,
    cli_evaluate,
    cli_inspect,
    cli_reproduce,
    cli_round,
    cli_search,
    cli_solve,
    cli_train,
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


app.command()(cli_compress.demo)
app.command()(cli_compress.compress)
app.command()(cli_inspect.inspect)
app.command("round")(cli_round.round_weights)
app.command()(cli_search.search)
app.command()(cli_search.worker)
app.command()(cli_train.train)
app.command()(cli_solve.solve)
app.command()(cli_solve.embed)
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


app.add_typer(cli_benchmark.app, name="benchmark")
app.add_typer(cli_reproduce.app, name="reproduce")
