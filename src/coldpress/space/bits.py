"""In which form linear layers may run in int8: static, dynamic, or the one that is faster where the layer stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from coldpress.cost.latency import between_floats, seconds_of
from coldpress.cost.profiles import Table
from coldpress.plan import KEEP, Option, Space

Form = Literal["static", "dynamic", "both"]
STATIC = Option("int8", bits=8)
DYNAMIC = Option("int8-dynamic", bits=8, dynamic=True)


def with_int8_form(space: Space, form: Form, faster: Mapping[str, str] | None = None) -> Space:
    """The space with the form of int8 that its linear layers are offered; all other layers have the static one.

    Args:
        space: of ``find_space``.
        form: of all linear layers but those in ``faster``.
        faster: of ``faster_dynamic``: units that are offered the dynamic form alone, so that there are no more options
            than before.
    """
    faster = faster or {}
    forms = {"static": (STATIC,), "dynamic": (DYNAMIC,), "both": (STATIC, DYNAMIC)}[form]
    units = list(space.units)
    for site in space.sites:
        if site.bits is not None and site.shape.kind == "linear":
            unit = units[site.bits]
            units[site.bits] = replace(unit, options=(Option(KEEP), *((DYNAMIC,) if unit.name in faster else forms)))
    refused = {f"{space.unit(name).target} in static int8": reason for name, reason in faster.items()}
    return replace(space, units=tuple(units), refused={**space.refused, **refused})


def faster_dynamic(space: Space, table: Table) -> dict[str, str]:
    """The bits units, with the times as words, of layers between floats that measure faster in dynamic int8.

    Only there (see ``between_floats``) does a layer's own time tell: elsewhere static layers hand on integers.
    """
    layers = [(site.bits, site.shape) for site in space.sites if site.bits is not None and between_floats(site.shape)]
    pairs = {shape: [replace(shape, bits=8, dynamic=dynamic) for dynamic in (False, True)] for _, shape in layers}
    table.measure(form for pair in pairs.values() for form in pair)
    found: dict[str, str] = {}
    for unit, shape in layers:
        static, dynamic = (seconds_of(table, form) * 1e6 for form in pairs[shape])
        if dynamic < static:
            found[space.units[unit].name] = f"measures {static:.0f} us between floats, dynamic {dynamic:.0f} us"
    return found
