"""Minimise a sum of tables over discrete units by eliminating one unit after another (bucket elimination).

Exact while the joint tables stay small; beyond ``max_entries`` a bucket is split (mini-buckets, Dechter and Rish 2003),
which keeps the value a valid lower bound. Arrays only: used for the smallest cost that can be met and by solvers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Scope = tuple[int, ...]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Table = tuple[Scope, Floats]

_compiled = numba.njit(cache=True, nogil=True)


class _Order(NamedTuple):
    """What is minimised over and read back, one unit after another, as flat arrays for compiled loops.

    The entries of all tables lie in one array, those given first. A step adds parts of it up and keeps the least over
    the options of its unit: the summands are at ``first[begins[p] + result] + option * stride[p]``.
    """

    steps: Ints  # (steps, 5): options of the unit, results, where these go, its first part, the end of its parts
    stride: Ints  # (parts,)
    begins: Ints  # (parts,)
    first: Ints  # (results of all parts,)
    units: Ints  # (units, 4), in the order of elimination: unit, its options, first of its tables, their end
    offsets: Ints  # (tables of all units,): where a table begins
    strides: Ints  # (tables of all units, units): between neighbouring options of a unit; 0 of what is not in it


class Elimination:
    """An order of elimination for tables over given scopes, to be used again and again with new numbers.

    Args:
        sizes: number of options of each unit.
        scopes: units of each table.
        max_entries: largest joint table that is formed before a bucket is split.
    """

    def __init__(self, sizes: Sequence[int], scopes: Iterable[Scope], max_entries: int = 1 << 18) -> None:
        self.sizes = tuple(sizes)
        self.exact = True
        slots = list(scopes)
        self._inputs = [self._entries(scope) for scope in slots]
        steps: list[tuple[int, list[int], int]] = []  # unit, slots that are summed, slot that comes of it
        buckets: list[tuple[int, list[int]]] = []
        pending = {slot for slot, scope in enumerate(slots) if scope}
        constants = {slot for slot, scope in enumerate(slots) if not scope}
        neighbours: dict[int, set[int]] = {unit: {unit} for unit in range(len(self.sizes))}
        for scope in slots:
            for unit in scope:
                neighbours[unit].update(scope)
        while neighbours:
            unit = min(neighbours, key=lambda u: (math.prod(self.sizes[v] for v in neighbours[u]), u))
            bucket = sorted(slot for slot in pending if unit in slots[slot])
            pending.difference_update(bucket)
            groups = self._split(slots, bucket, max_entries)
            self.exact &= len(groups) <= 1
            for group in groups:
                rest = tuple(sorted({v for slot in group for v in slots[slot]} - {unit}))
                steps.append((unit, group, len(slots)))
                (pending if rest else constants).add(len(slots))
                slots.append(rest)
            buckets.append((unit, bucket))
            others = neighbours.pop(unit) - {unit}
            for other in others:
                neighbours[other] = (neighbours[other] | others) - {unit}
        self._places = np.cumsum([0, *map(self._entries, slots)])
        self._constants = self._places[sorted(constants)]
        self._order = self._flat(slots, steps, buckets)

    def _entries(self, scope: Scope) -> int:
        return math.prod(self.sizes[unit] for unit in scope)

    def _split(self, slots: list[Scope], bucket: list[int], max_entries: int) -> list[list[int]]:
        groups: list[tuple[set[int], list[int]]] = []
        for slot in sorted(bucket, key=lambda slot: -len(slots[slot])):
            for scope, group in groups:
                if math.prod(self.sizes[v] for v in scope | set(slots[slot])) <= max_entries:
                    scope.update(slots[slot])
                    group.append(slot)
                    break
            else:
                groups.append((set(slots[slot]), [slot]))
        return [group for _, group in groups]

    def _flat(
        self, slots: list[Scope], steps: list[tuple[int, list[int], int]], buckets: list[tuple[int, list[int]]]
    ) -> _Order:
        strides = [self._strides(scope) for scope in slots]
        rows, stride, first = list[list[int]](), list[int](), list[Ints]()
        for unit, group, result in steps:
            count, place = self._entries(slots[result]), int(self._places[result])
            rows.append([self.sizes[unit], count, place, len(stride), len(stride) + len(group)])
            for slot in group:
                at = np.array([self._places[slot]], dtype=np.int64)
                for v in slots[result]:
                    at = (at[:, None] + strides[slot].get(v, 0) * np.arange(self.sizes[v])).ravel()
                stride.append(strides[slot][unit])
                first.append(at)
        units, offsets = list[list[int]](), list[int]()
        apart = np.zeros((sum(len(bucket) for _, bucket in buckets), len(self.sizes)), dtype=np.int64)
        for unit, bucket in buckets:
            units.append([unit, self.sizes[unit], len(offsets), len(offsets) + len(bucket)])
            for slot in bucket:
                for v, step in strides[slot].items():
                    apart[len(offsets), v] = step
                offsets.append(int(self._places[slot]))
        return _Order(
            np.array(rows, dtype=np.int64).reshape(-1, 5),
            np.array(stride, dtype=np.int64),
            np.cumsum([0, *map(len, first)]),
            np.concatenate([np.zeros(0, dtype=np.int64), *first]),
            np.array(units, dtype=np.int64).reshape(-1, 4),
            np.array(offsets, dtype=np.int64),
            apart,
        )

    def _strides(self, scope: Scope) -> dict[int, int]:
        """Entries between neighbouring options of each unit, in a table whose last unit varies fastest."""
        found, step = dict[int, int](), 1
        for unit in reversed(scope):
            found[unit] = step
            step *= self.sizes[unit]
        return found

    def minimise(self, tables: Sequence[Floats]) -> tuple[float, Ints]:
        """Minimise the sum of ``tables``, one per scope.

        Returns:
            A lower bound of the minimum (the minimum itself when ``exact``), and a choice ``(units,)`` that attains it
            or comes near it. The bound is +inf when nothing is allowed.

        Raises:
            ValueError: the tables are not as many, or not of as many entries, as the scopes ask for.
        """
        if [table.size for table in tables] != self._inputs:
            raise ValueError(f"{len(tables)} tables for {len(self._inputs)} scopes, or not of their units' sizes")
        return self.minimise_flat(np.concatenate([np.zeros(0), *(table.ravel() for table in tables)]))

    def minimise_flat(self, entries: Floats) -> tuple[float, Ints]:
        """As `minimise`, with the entries of all tables one after another in one array, each table row after row."""
        values = np.empty(self._places[-1])
        values[: len(entries)] = entries
        choice = np.zeros(len(self.sizes), dtype=np.int64)
        _eliminate(values, choice, *self._order)
        return float(values[self._constants].sum()), choice


@_compiled
def _eliminate(
    values: Floats, choice: Ints, steps: Ints, stride: Ints, begins: Ints, first: Ints, units: Ints, offsets: Ints,
    strides: Ints,
) -> None:  # fmt: skip
    """Fill in the tables that the steps make; then read the choice back, the unit that went last first."""
    for s in range(len(steps)):
        options, count, place, begin, end = steps[s]
        for i in range(count):
            least = np.inf
            for o in range(options):
                total = 0.0
                for p in range(begin, end):
                    total += values[first[begins[p] + i] + o * stride[p]]
                least = min(least, total)
            values[place + i] = least
    at = np.empty(len(offsets), dtype=np.int64)
    for k in range(len(units) - 1, -1, -1):
        unit, options, begin, end = units[k]
        for t in range(begin, end):
            at[t] = offsets[t] + (strides[t] * choice).sum()
        least = np.inf
        for o in range(options):
            total = 0.0
            for t in range(begin, end):
                total += values[at[t] + o * strides[t, unit]]
            if total < least:
                least = total
                choice[unit] = o


def minimise_sum(sizes: Sequence[int], tables: Iterable[Table], max_entries: int = 1 << 18) -> tuple[float, Ints]:
    """Minimise the sum of ``tables``, pairs (units, table of shape the sizes of these units), once.

    Returns:
        What `Elimination.minimise` returns.
    """
    listed = [(tuple(units), np.asarray(table, dtype=np.float64)) for units, table in tables]
    return Elimination(sizes, [units for units, _ in listed], max_entries).minimise([table for _, table in listed])
