"""Minimise a sum of tables over discrete units by eliminating one unit after another (bucket elimination).

Exact while the joint tables stay small; beyond ``max_entries`` a bucket is split (mini-buckets, Dechter and Rish 2003),
which keeps the value a valid lower bound. Arrays only: used for the smallest cost that can be met and by solvers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Scope = tuple[int, ...]
Floats = NDArray[np.float64]
Table = tuple[Scope, Floats]


class _Step(NamedTuple):
    """Minimise the sum of ``slots``, each reshaped for broadcasting, over the last axis, into a new slot."""

    slots: list[tuple[int, tuple[int, ...], tuple[int, ...]]]  # slot, axes' order, shape to broadcast
    result: int


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
        self._inputs = len(slots)
        self._steps: list[_Step] = []
        self._decode: list[tuple[int, list[tuple[int, Scope, int]]]] = []
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
                layout = [self._broadcast(slot, slots[slot], (*rest, unit)) for slot in group]
                self._steps.append(_Step(layout, len(slots)))
                (pending if rest else constants).add(len(slots))
                slots.append(rest)
            self._decode.append((unit, [(slot, slots[slot], slots[slot].index(unit)) for slot in bucket]))
            others = neighbours.pop(unit) - {unit}
            for other in others:
                neighbours[other] = (neighbours[other] | others) - {unit}
        self._constants = sorted(constants)
        self._slots = len(slots)

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

    def _broadcast(self, slot: int, scope: Scope, target: Scope) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
        order = tuple(sorted(range(len(scope)), key=lambda axis: target.index(scope[axis])))
        return slot, order, tuple(self.sizes[v] if v in scope else 1 for v in target)

    def minimise(self, tables: Sequence[Floats]) -> tuple[float, NDArray[np.int64]]:
        """Minimise the sum of ``tables``, one per scope.

        Returns:
            A lower bound of the minimum (the minimum itself when ``exact``), and a choice ``(units,)`` that attains it
            or comes near it. The bound is +inf when nothing is allowed.
        """
        if len(tables) != self._inputs:
            raise ValueError(f"{len(tables)} tables for {self._inputs} scopes")
        values: list[Floats] = [*tables, *([np.zeros(0)] * (self._slots - self._inputs))]
        for layout, result in self._steps:
            total: Floats | None = None
            for slot, order, shape in layout:
                part = values[slot].transpose(order).reshape(shape)
                total = part if total is None else total + part
            if total is not None:
                values[result] = total.min(axis=-1)
        choice = np.zeros(len(self.sizes), dtype=np.int64)
        picked = choice.tolist()
        for unit, bucket in reversed(self._decode):
            score = np.zeros(self.sizes[unit])
            for slot, scope, axis in bucket:
                score = (
                    score + values[slot][tuple(slice(None) if i == axis else picked[v] for i, v in enumerate(scope))]
                )
            picked[unit] = int(score.argmin())
        choice[:] = picked
        return sum(float(values[slot]) for slot in self._constants), choice


def minimise_sum(
    sizes: Sequence[int], tables: Iterable[Table], max_entries: int = 1 << 18
) -> tuple[float, NDArray[np.int64]]:
    """Minimise the sum of ``tables``, pairs (units, table of shape the sizes of these units), once.

    Returns:
        What `Elimination.minimise` returns.
    """
    listed = [(tuple(units), np.asarray(table, dtype=np.float64)) for units, table in tables]
    return Elimination(sizes, [units for units, _ in listed], max_entries).minimise([table for _, table in listed])
