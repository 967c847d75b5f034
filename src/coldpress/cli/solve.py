"""The command line of problems in files: `coldpress solve` and `coldpress embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coldpress.commands import options


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
