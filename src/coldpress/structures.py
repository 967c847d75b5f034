"""Whole networks of the shapes that plans give, exported, timed and weighed on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from coldpress.cost.operators import operators_of
from coldpress.cost.profiles import ModelledTable, Table
from coldpress.deploy import export_both, int8_layers, served, time_files
from coldpress.plan import Plan, Space
from coldpress.runtime.onnx_files import structure_of
from coldpress.surgery.apply import apply_plan
from coldpress.task import Task

Choices = Mapping[str, str]
Progress = Callable[[int, int], None]
ORIGINAL = "original"


def half_width(space: Space) -> dict[str, str]:
    """The choices that keep about half of every group's channels."""
    return {
        unit.name: min(
            unit.options[1:], key=lambda o: abs((o.channels or 0) * 2 - space.groups[unit.name].channels)
        ).label
        for unit in space.units
        if unit.kind == "width"
    }


def structural_plan(space: Space, choices: Choices) -> Plan:
    """A plan with arbitrary channels kept: the right shapes, for measuring time and bytes."""
    kept = {}
    options = space.options(choices)
    for i, unit in enumerate(space.units):
        if unit.name in choices and options[i].channels is not None:
            kept[unit.name] = tuple(range(options[i].channels or 0))
    return Plan(dict(choices), kept)


@dataclass(frozen=True)
class Measured:
    """A whole network on the runtime: seconds of one run (None where not timed) and bytes of its file."""

    seconds: float | None
    bytes: int


def measure_structures(
    task: Task,
    space: Space,
    choices: Mapping[str, Choices],
    *,
    table: Table | None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Measured]:
    """Build, export and time networks of the shapes that some choices give, in turns with the original.

    A machine's speed drifts between runs: once the table knows the original's time, all times are scaled so that the
    original takes just this. What the table knows already is not timed again, so that a run that is repeated, or goes
    on after a stop, comes to the same plan.

    Args:
        task, space: what the choices are about.
        choices: by name.
        table: keeps the times, and is saved; None only weighs the files; a modelled one tells them by their operators.
        seed: of the order of timing.
        progress: called with (done, in all).
    """
    if table is not None:
        choices = {ORIGINAL: {}, **choices}
    inputs, _ = task.calibration(32)
    with tempfile.TemporaryDirectory(prefix="coldpress-") as folder:
        files: dict[str, Path] = {}
        for done, (name, chosen) in enumerate(choices.items()):
            plan = structural_plan(space, chosen)
            network, _ = apply_plan(task.model, space, plan)
            files[name] = Path(folder) / f"{done}.onnx"
            fp32 = Path(folder) / f"{done}.fp32.onnx"
            export_both(network, task.example_inputs, int8_layers(space, plan, network), inputs, fp32, files[name])
            if progress:
                progress(done + 1, len(choices) + 1)
        sizes = {name: path.stat().st_size for name, path in files.items()}
        if table is None:
            return {name: Measured(None, size) for name, size in sizes.items()}
        arrays = served(task.example_inputs, table.batch)
        if isinstance(table, ModelledTable):
            modelled = {name: table.network(operators_of(path, arrays)) for name, path in files.items()}
            return {name: Measured(modelled[name], size) for name, size in sizes.items()}
        structures = {name: structure_of(path) for name, path in files.items()}
        new = {name: path for name, path in files.items() if structures[name] not in table.networks}
        if new:
            new[ORIGINAL] = files[ORIGINAL]
            times = time_files(new, task.example_inputs, threads=table.threads, batch=table.batch, seed=seed)
            now = times[ORIGINAL].median * 1e-3
            unit = 1e-3 * table.networks.setdefault(structures[ORIGINAL], now) / now
            for name, path in new.items():
                table.networks.setdefault(structures[name], times[name].median * unit)
                table.operators.setdefault(structures[name], operators_of(path, arrays))
            table.save()
    if progress:
        progress(len(choices) + 1, len(choices) + 1)
    return {name: Measured(table.networks[structures[name]], size) for name, size in sizes.items()}
