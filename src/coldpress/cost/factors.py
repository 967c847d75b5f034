"""Costs as sums of tables over few units, built from a space and what one layer costs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from coldpress.layer_shape import LayerShape
from coldpress.plan import Option, Site, Space
from coldpress.problem import Cost, Factor

Quantity = Callable[[LayerShape], float]
Rule = Callable[[LayerShape], bool]

# Beyond this a layer's table is split by the sources of its input.
MAX_TABLE = 20_000
MAX_SOURCES = 2


def layer_cost(
    name: str, space: Space, quantity: Quantity, constant: float = 0.0, *, allowed: Rule = attrgetter("factors_pay")
) -> Cost:
    """The sum of ``quantity`` over all layers, as a function of the plan.

    Exact, but for a layer whose input is a concatenation of more than two governed parts (or whose table would be
    huge): there it is expanded around the full input, which is exact for what is linear in the input width, as bytes
    and MACs are, and first order for times.

    Combinations that no plan needs cost +inf: those that ``allowed`` refuses, and a dropped block whose own units do
    not keep (one plan, one description).

    Args:
        name: of the cost: "size", "macs", "latency".
        space: units and layers.
        quantity: cost of one layer.
        constant: cost of everything that is in no layer of the space.
        allowed: whether a layer may take this shape.
    """
    known: dict[LayerShape, float] = {}

    def cost(shape: LayerShape) -> float:
        if shape not in known:
            known[shape] = float(quantity(shape)) if allowed(shape) else math.inf
        return known[shape]

    inner = inner_units(space)
    factors: list[Factor] = []
    for site in space.sites:
        if site.units:
            factors += _site_factors(space, site, cost, inner)
        else:  # a layer that no unit governs is a constant
            constant += cost(site.shape)
    return Cost(name, merged(factors), constant)


def merged(factors: Iterable[Factor]) -> tuple[Factor, ...]:
    """Factors of equal scope added up; scopes sorted, and one within another put into it."""
    tables: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for factor in factors:
        order = tuple(int(i) for i in np.argsort(factor.units))
        units = tuple(factor.units[i] for i in order)
        table = np.transpose(factor.table, order)
        tables[units] = tables[units] + table if units in tables else table.astype(np.float64)
    return tuple(Factor(units, tables[units]) for units in sorted(tables))


def inner_units(space: Space) -> dict[int, set[int]]:
    """For each depth unit the units that matter only while its block is there."""
    blocks: dict[int, set[int | None]] = defaultdict(set)
    for site in space.sites:
        for unit in site.units:
            if unit != site.depth:
                blocks[unit].add(site.depth)
    inner: dict[int, set[int]] = defaultdict(set)
    for unit, depths in blocks.items():
        (depth, *others) = depths
        if depth is not None and not others:
            inner[depth].add(unit)
    return dict(inner)


def _site_factors(space: Space, site: Site, cost: Quantity, inner: dict[int, set[int]]) -> list[Factor]:
    units = site.units
    if len(site.sources) <= MAX_SOURCES and math.prod(len(space.units[u].options) for u in units) <= MAX_TABLE:
        return [Factor(units, _table(space, site, units, cost, inner))]
    always = {site.output.unit} if site.output else set()
    always |= {unit for unit in (site.rank, site.bits, site.depth) if unit is not None}
    sources = sorted({source.unit for source in site.sources} - always)
    rest = tuple(sorted(always))
    base = _table(space, site, rest, cost, inner)
    factors = [Factor(rest, base)] if rest else []
    for source in sources:
        scope = tuple(sorted((*rest, source)))
        table = _table(space, site, scope, cost, inner)
        # What the rule refuses at full input is refused there already; +inf less +inf would be no number.
        full = np.expand_dims(base, scope.index(source))
        known = np.isfinite(table) & np.isfinite(full)
        change = np.where(known, np.where(known, table, 0.0) - np.where(known, full, 0.0), 0.0)
        if not factors:  # no unit of its own carries the cost at full input: the first source does
            change = change + base
        factors.append(Factor(scope, change))
    return factors


def _table(
    space: Space, site: Site, scope: Sequence[int], cost: Quantity, inner: dict[int, set[int]]
) -> NDArray[np.float64]:
    """Cost of one layer over the options of ``scope``; units outside it keep."""
    options: dict[int, Option] = {unit: space.units[unit].options[0] for unit in site.units}
    own = inner.get(site.depth, set()) if site.depth is not None else set()
    table = np.empty([len(space.units[unit].options) for unit in scope])
    for index in np.ndindex(*table.shape):
        for unit, i in zip(scope, index):
            options[unit] = space.units[unit].options[i]
        shape = site.configured(options)
        if shape is not None:
            table[index] = cost(shape)
        else:
            table[index] = math.inf if any(i and unit in own for unit, i in zip(scope, index)) else 0.0
    return table
