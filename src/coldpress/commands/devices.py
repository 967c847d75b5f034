"""`coldpress devices`: the machines that latency can be modelled for, and how far such a model is off on this one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.table import Table
from scipy import stats

from coldpress.commands.terminal import out
from coldpress.cost.profiles import PROFILES, ModelledTable, host_as_unknown
from coldpress.cost.table import LatencyTable


@dataclass(frozen=True)
class ModelError:
    """How modelled layer times compare with measured ones.

    Attributes:
        layers: how many were compared.
        median: of modelled over measured.
        spread: the factor, above 1, that half of the ratios are within of their median.
        correlation: rank correlation.
    """

    layers: int
    median: float
    spread: float
    correlation: float


def model_error(table: LatencyTable, modelled: ModelledTable) -> ModelError | None:
    """Compare a model with all layers that a table holds; None for fewer than three."""
    pairs = [(seconds, modelled.seconds(shape)) for shape, seconds in table.measured()]
    if len(pairs) < 3:
        return None
    measured, predicted = np.array(pairs).T
    logs = np.log(predicted / measured)
    spread = float(np.exp(np.median(np.abs(logs - np.median(logs)))))
    rank = stats.spearmanr(measured, predicted)
    return ModelError(len(pairs), float(np.exp(np.median(logs))), spread, float(rank.statistic))


def run() -> None:
    """Print the profiles and their sources, and the model's error where layers of this machine were measured."""
    table = Table(title="Profiles: one core each; latency on them is modelled, not measured", title_style="dim")
    for name in ("--device", "cores", "GHz", "fp32 GMAC/s", "int8 GMAC/s", "memory GB/s"):
        table.add_column(name, justify="left" if name == "--device" else "right")
    for name, machine in PROFILES.items():
        peaks = (machine.ghz * machine.fp32, machine.ghz * machine.int8)
        row = (str(machine.cores), f"{machine.ghz:g}", *(f"{peak:.0f}" for peak in peaks), f"{machine.far:g}")
        table.add_row(name, *row)
    out.print(table)
    for name, machine in PROFILES.items():
        out.print(f"{name}: {machine.title}. {machine.source}", soft_wrap=True, highlight=False)
    here = LatencyTable()
    error = model_error(here, ModelledTable(host_as_unknown()))
    if error is None:
        out.print("No layer was measured on this machine yet, so the model's error is not known: run coldpress demo")
        return
    words = f"{error.layers} layers, modelled / measured {error.median:.2f} in the median, half of the layers within a"
    words += f" factor of {error.spread:.2f} of that, rank correlation {error.correlation:.2f}"
    out.print(f"This machine, modelled as if it were not here: {words}", soft_wrap=True, highlight=False)
