"""Costs as sums of tables over few units, built from a space and what one layer costs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from coldpress.layer_shape import LayerShape
from coldpress.plan import Site, Space
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

    Combinations that no plan needs cost +inf: those that ``allowed`` refuses, and a dropped block or sub-layer whose
    own units do not keep (one plan, one description).

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
    """For each unit that drops a block or a sub-layer the units that matter only while this is there."""
    droppers: dict[int, set[int]] = {}
    for site in space.sites:
        for unit in site.units:
            droppers[unit] = droppers.get(unit, set(site.droppers)) & set(site.droppers)
    inner: dict[int, set[int]] = defaultdict(set)
    for unit, dropping in droppers.items():
        for dropper in dropping - {unit}:
            inner[dropper].add(unit)
    return dict(inner)


def _site_factors(space: Space, site: Site, cost: Quantity, inner: dict[int, set[int]]) -> list[Factor]:
    units = site.units
    priced: dict[int, float] = {}
    if len(site.sources) <= MAX_SOURCES and math.prod(len(space.units[u].options) for u in units) <= MAX_TABLE:
        return [Factor(units, _table(space, site, units, cost, inner, priced))]
    always = {site.output.unit} if site.output else set()
    always |= {unit for unit in (site.rank, site.bits, *site.droppers) if unit is not None}
    sources = sorted({source.unit for source in site.sources} - always)
    rest = tuple(sorted(always))
    base = _table(space, site, rest, cost, inner, priced)
    factors = [Factor(rest, base)] if rest else []
    for source in sources:
        scope = tuple(sorted((*rest, source)))
        table = _table(space, site, scope, cost, inner, priced)
        # What the rule refuses at full input is refused there already; +inf less +inf would be no number.
        full = np.expand_dims(base, scope.index(source))
        known = np.isfinite(table) & np.isfinite(full)
        change = np.where(known, np.where(known, table, 0.0) - np.where(known, full, 0.0), 0.0)
        if not factors:  # no unit of its own carries the cost at full input: the first source does
            change = change + base
        factors.append(Factor(scope, change))
    return factors


def _table(
    space: Space,
    site: Site,
    scope: Sequence[int],
    cost: Quantity,
    inner: dict[int, set[int]],
    priced: dict[int, float],
) -> NDArray[np.float64]:
    """Cost of one layer over the options of ``scope``; units outside it keep.

    ``priced`` has the costs of the layer's shapes so far: few of them stand in many places.
    """
    sizes = [len(space.units[unit].options) for unit in scope]
    inputs, outputs, forms = (np.zeros(sizes, dtype=np.int64) for _ in range(3))
    gone, unlike = ({unit: np.zeros(sizes, dtype=bool) for unit in site.droppers} for _ in range(2))
    for axis, unit in enumerate(scope):
        options = space.units[unit].options
        along = [-1 if other == axis else 1 for other in range(len(scope))]
        number = np.arange(len(options)).reshape(along)
        for source in (source for source in site.sources if source.unit == unit):
            inputs += np.array([source.lost(option) for option in options]).reshape(along)
        if site.output is not None and site.output.unit == unit:
            outputs += np.array([site.output.lost(option) for option in options]).reshape(along)
        if unit in (site.rank, site.bits):
            forms = forms * len(options) + number
        if unit in gone:
            gone[unit] |= np.array([option.drop for option in options]).reshape(along)
        for dropper in site.droppers:
            if unit in inner.get(dropper, ()):
                unlike[dropper] |= number > 0
    dropped = np.any([np.zeros(sizes, dtype=bool), *gone.values()], axis=0)
    most = math.prod(len(space.units[u].options) for u in (site.rank, site.bits) if u is not None)
    code = ((inputs * (site.shape.out_channels + 1) + outputs) * most + forms) * 2 + dropped
    codes, first, inverse = np.unique(code.ravel(), return_index=True, return_inverse=True)
    for form, place in zip(codes.tolist(), first.tolist()):
        if form not in priced:
            chosen = {unit: space.units[unit].options[0] for unit in site.units}
            for unit, option in zip(scope, np.unravel_index(place, sizes)):
                chosen[unit] = space.units[unit].options[option]
            shape = site.configured(chosen)
            priced[form] = 0.0 if shape is None else cost(shape)
    table = np.array([priced[form] for form in codes.tolist()])[inverse].reshape(sizes)
    for unit in site.droppers:
        table = np.where(gone[unit] & unlike[unit], math.inf, table)
    return table
