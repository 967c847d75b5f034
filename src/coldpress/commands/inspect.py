"""`coldpress inspect`: what could be decided in a model, and what each decision would cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from rich.markup import escape
from rich.table import Table

from coldpress.commands.subject import build_model, example_for, read_data
from coldpress.commands.terminal import out, progress_bars
from coldpress.cost.latency import LatencyTable, shapes_of
from coldpress.plan import KEEP, Space, Unit
from coldpress.pricing import Prices
from coldpress.problem import Cost
from coldpress.recipe import Recipe
from coldpress.report import formats
from coldpress.report.tables import refused_groups
from coldpress.space import find_space
from coldpress.space.bits import faster_dynamic, with_int8_form
from coldpress.task import Task

UNITS = {"macs": 1e6, "size": 1e3, "latency": 1e-6}
HEADS = {"macs": "MMACs", "size": "kB", "latency": "us"}


def run(recipe: Recipe, input_shape: Sequence[int] | None, latency: bool, all_options: bool) -> None:
    """Print the units of a model, their options and costs, and what is refused, with reasons."""
    task = _task(recipe, input_shape)
    space = find_space(task, recipe.units)
    table = LatencyTable(threads=recipe.threads, batch=recipe.batch) if latency else None
    if table is not None:
        with progress_bars() as tell:
            space = with_int8_form(space, "static", faster_dynamic(space, table))
            table.measure(
                shapes_of(space),
                limit_seconds=recipe.measure_seconds,
                progress=lambda done, total: tell("measure layers", done, total),
            )
    prices = Prices(space, table, 0.0)
    costs = {name: cost for name, cost in prices.costs().items() if name in HEADS}
    costs = {name: costs[name] for name in HEADS if name in costs}
    out.print(_options_table(space, costs) if all_options else _units_table(space, costs))
    keep = [0] * len(space.units)
    whole = (f"{formats.three(cost.value(keep) / UNITS[name])} {HEADS[name]}" for name, cost in costs.items())
    options = sum(space.sizes) - len(space.units)
    plans = sum(np.log10(space.sizes))
    out.print(
        f"{len(space.sites)} layers, {len(space.units)} units, {options} options beside keep: 10^{plans:.0f} plans"
    )
    out.print(f"As it is: {', '.join(whole)}{' (the sum of its layers)' if latency else ''}")
    show_refused({**space.refused, **prices.refused()})


def _task(recipe: Recipe, input_shape: Sequence[int] | None) -> Task:
    splits = read_data(recipe) if recipe.data is not None else None
    model = build_model(recipe.model, recipe.weights, recipe.num_classes, splits, untrained=True)
    given = splits.arguments() if splits is not None else {}
    example = example_for(recipe.model, input_shape) if splits is None or input_shape is not None else None
    return Task(model, example, **given, ignored_layers=recipe.ignored_layers, seed=recipe.seed)


def _units_table(space: Space, costs: Mapping[str, Cost]) -> Table:
    table = _table(("unit", "kind", "options beside keep"), [f"least {HEADS[name]}" for name in costs])
    for number, unit in enumerate(space.units):
        alone = [_alone(space, number, option) for option in range(1, len(unit.options))]
        least = (min(cost.value(choice) for choice in alone) for cost in costs.values())
        shown = _shown(least, costs)
        table.add_row(escape(unit.target), unit.kind, escape(_labels(unit)), *shown)
    return table


def _options_table(space: Space, costs: Mapping[str, Cost]) -> Table:
    table = _table(("unit", "kind", "option"), [HEADS[name] for name in costs])
    for number, unit in enumerate(space.units):
        for i, option in enumerate(unit.options):
            shown = _shown((cost.value(_alone(space, number, i)) for cost in costs.values()), costs)
            table.add_row(escape(unit.target) if i == 0 else "", unit.kind if i == 0 else "", option.label, *shown)
    return table


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(caption="costs of the whole model with that one change", caption_style="dim")
    for name in left:
        table.add_column(name, overflow="fold")
    for name in right:
        table.add_column(name, justify="right")
    return table


def _alone(space: Space, unit: int, option: int) -> list[int]:
    return [option if i == unit else 0 for i in range(len(space.units))]


def _shown(values: Iterable[float], costs: Mapping[str, Cost]) -> list[str]:
    return [
        formats.three(value / UNITS[name]) if np.isfinite(value) else "slower" for name, value in zip(costs, values)
    ]


def _labels(unit: Unit, most: int = 6) -> str:
    labels = [option.label for option in unit.options if option.label != KEEP]
    if len(labels) > most:
        labels = [*labels[: most // 2], "...", *labels[-most // 2 :]]
    return " ".join(labels)


def show_refused(refused: Mapping[str, str], most: int = 12) -> None:
    """What is not offered, by reason."""
    groups = refused_groups(refused)
    if not groups:
        return
    table = Table(title="Refused", title_style="dim")
    table.add_column("what", overflow="fold")
    table.add_column("why", overflow="fold")
    for reason, names in groups[:most]:
        table.add_row(escape(", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")), reason)
    if len(groups) > most:
        table.add_row(f"{sum(len(names) for _, names in groups[most:])} more", "")
    out.print(table)
