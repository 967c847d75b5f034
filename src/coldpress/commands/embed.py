"""`coldpress embed`: what a problem in a file would take on a QPU, before anything is spent."""

from __future__ import annotations

import json
from pathlib import Path

import typer
from rich.table import Table

from coldpress.commands.terminal import out
from coldpress.interchange import read
from coldpress.report import formats
from coldpress.samplers.hardware import Estimate, estimate_embedding


def run(
    path: Path,
    topology: str,
    size: int | None,
    num_reads: int,
    time_limit: float,
    seed: int,
    as_json: bool,
    vartype: str | None = None,
) -> None:
    """Show the estimate for the problem in ``path``: a BQM as it stands, anything else as a QUBO with penalties.

    Raises:
        PlanError: the file cannot be read.
        SamplerError: an argument is out of its range.
        HardwareError: the extra `dwave` is not installed.
        BudgetError: as a QUBO the problem is too large.
    """
    given = read(path, vartype)
    model = given.model if given.model is not None else given.problem.to_bqm()
    found = estimate_embedding(model, topology, size=size, num_reads=num_reads, seed=seed, time_limit=time_limit)
    if as_json:
        typer.echo(json.dumps(found.facts(), indent=1))
    else:
        out.print(_table(path, found))


def _table(path: Path, found: Estimate) -> Table:
    table = Table(show_header=False, title=f"{path} on {found.topology} {found.size}", title_style="dim")
    table.add_row("graph", f"{found.graph_qubits:,} qubits, {found.graph_couplers:,} couplers; real ones lack some")
    table.add_row("model", f"{found.variables:,} variables, {found.couplings:,} couplings")
    table.add_row("cliques", f"of up to {found.largest_clique} variables, all coupled, surely fit")
    chosen = found.embedding
    if chosen is None:
        table.add_row("fits", f"no: none was found; in blocks: --max-variables {found.largest_clique}")
        return table
    table.add_row("fits", f"yes, as a {'clique' if chosen.method == 'clique' else 'graph, by search'}")
    table.add_row("qubits", f"{chosen.qubits:,}, {chosen.qubits / found.graph_qubits:.1%} of them")
    table.add_row("chains", f"longest {chosen.longest_chain} qubits, mean {chosen.mean_chain:.1f}")
    if found.qpu_seconds is None or found.read_seconds is None:
        table.add_row("QPU time", "no public figures for this topology")
    else:
        table.add_row("a read", f"{formats.three(1e6 * found.read_seconds)} microseconds")
        table.add_row(f"{found.num_reads:,} reads", f"{formats.three(1e3 * found.qpu_seconds)} ms of QPU time")
        table.add_row("figures of", found.timing_source or "")
    return table
