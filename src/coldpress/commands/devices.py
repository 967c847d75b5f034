"""`coldpress devices`: the machines that latency can be modelled for, and how far such a model is off on this one."""

from __future__ import annotations

from rich.table import Table

from coldpress.commands.terminal import out
from coldpress.cost.model_error import host_error
from coldpress.cost.profiles import PROFILES


def run(threads: int, batch: int) -> None:
    """Print the profiles and their sources, and the model's error where times were measured on this machine.

    Args:
        threads, batch: as they were measured.
    """
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
    out.print(
        f"This machine, modelled as if it were not here, {threads} thread{'s' * (threads > 1)}, batch {batch}:",
        highlight=False,
    )
    error = host_error(threads, batch)
    for what, known in (("layers", error.layers), ("whole networks", error.networks)):
        if known is None:
            words = (
                f"fewer than three {what} were measured so, the error is not known: coldpress compress with a limit "
            )
            words += "on latency measures some"
        else:
            words = f"{known.count} {what}, modelled / measured {known.median:.2f} in the median, half of them within a"
            words += f" factor of {known.spread:.2f} of that, rank correlation {known.correlation:.2f}"
        out.print(words, soft_wrap=True, highlight=False)
