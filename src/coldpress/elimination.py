"""Minimise a sum of tables over discrete units by eliminating one unit after another (bucket elimination).

Exact while the joint tables stay small; beyond ``max_entries`` a bucket is split (mini-buckets, Dechter and Rish 2003),
which keeps the value a valid lower bound. Arrays only: used for the smallest cost that can be met and by solvers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Table = tuple[tuple[int, ...], NDArray[np.float64]]


def minimise_sum(
    sizes: Sequence[int], tables: Iterable[Table], max_entries: int = 1 << 18
) -> tuple[float, NDArray[np.int64]]:
    """Minimise the sum of ``tables`` over one option per unit.

    Args:
        sizes: number of options of each unit.
        tables: pairs (units, table of shape the sizes of these units); +inf forbids a combination.
        max_entries: largest joint table that is formed before a bucket is split.

    Returns:
        A lower bound of the minimum (the minimum itself when no bucket was split) and a choice ``(units,)`` that
        attains it, or comes near it after a split. The bound is +inf when nothing is allowed.
    """
    pending = [(tuple(units), np.asarray(table, dtype=np.float64)) for units, table in tables]
    constant = sum(float(table) for units, table in pending if not units)
    pending = [(units, table) for units, table in pending if units]
    remaining = set(range(len(sizes)))
    steps: list[tuple[int, list[Table]]] = []
    neighbours = {unit: {unit} for unit in remaining}
    for units, _ in pending:
        for unit in units:
            neighbours[unit].update(units)
    while remaining:
        unit = min(remaining, key=lambda u: (math.prod(sizes[v] for v in neighbours[u]), u))
        bucket = [entry for entry in pending if unit in entry[0]]
        pending = [entry for entry in pending if unit not in entry[0]]
        for group in _split(sizes, bucket, max_entries):
            scope = tuple(sorted({v for units, _ in group for v in units}))
            message = _joint(sizes, scope, group).min(axis=scope.index(unit))
            rest = tuple(v for v in scope if v != unit)
            if rest:
                pending.append((rest, message))
            else:
                constant += float(message)
        steps.append((unit, bucket))
        remaining.discard(unit)
        others = neighbours.pop(unit) - {unit}
        for other in others:
            neighbours[other] = (neighbours[other] | others) - {unit}
    choice = np.zeros(len(sizes), dtype=np.int64)
    for unit, bucket in reversed(steps):
        values = np.zeros(sizes[unit])
        for units, table in bucket:
            index = tuple(slice(None) if v == unit else int(choice[v]) for v in units)
            values = values + table[index]
        choice[unit] = int(np.argmin(values))
    return constant, choice


def _split(sizes: Sequence[int], bucket: list[Table], max_entries: int) -> list[list[Table]]:
    groups: list[tuple[set[int], list[Table]]] = []
    for units, table in sorted(bucket, key=lambda entry: -len(entry[0])):
        for scope, group in groups:
            if math.prod(sizes[v] for v in scope | set(units)) <= max_entries:
                scope.update(units)
                group.append((units, table))
                break
        else:
            groups.append((set(units), [(units, table)]))
    return [group for _, group in groups]


def _joint(sizes: Sequence[int], scope: tuple[int, ...], group: list[Table]) -> NDArray[np.float64]:
    """The sum of the group's tables, axes in the order of ``scope``."""
    total = np.zeros([sizes[v] for v in scope])
    for units, table in group:
        order = np.argsort(units)
        shape = [sizes[v] if v in units else 1 for v in scope]
        total += np.transpose(table, order).reshape(shape)
    return total
