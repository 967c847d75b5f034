"""The problem as flat arrays for compiled loops: merged cost tables, and a state that moves keep up to date."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coldpress.elimination import Table, minimise_sum
from coldpress.problem import Problem

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Block(NamedTuple):
    """All that the limits say about a set of units.

    Attributes:
        units: indices, ascending.
        table: shape ``(limits, options of units[0], ...)``, in shares of each limit; +inf where forbidden.
    """

    units: tuple[int, ...]
    table: Floats


class Arrays(NamedTuple):
    """A problem for compiled loops (F blocks, Q limits, U units, n options).

    ``tables[base[f] + index, q]`` is the share of limit q that block f takes; ``index`` is the sum over the block's
    units of option times stride. The blocks of unit u are ``block[first[u]:first[u + 1]]``, with their strides.
    """

    quadratic: Floats  # (n, n)
    linear: Floats  # (n,)
    offsets: Ints  # (U + 1,)
    base: Ints  # (F,)
    tables: Floats  # (entries, Q)
    first: Ints  # (U + 1,)
    block: Ints  # (sum of scopes,)
    stride: Ints  # (sum of scopes,)
    room: Floats  # (Q,) share of each limit that the constants leave


def merge_blocks(problem: Problem) -> tuple[list[Block], Floats]:
    """Merge the factors of all limited costs, and what any cost forbids, into few blocks.

    Equal scopes become one block, a scope inside another joins it, and axes along which nothing changes are dropped.

    Returns:
        The blocks and the room ``(limits,)``: the share of each limit that the costs' constants leave.
    """
    limits = problem.limits
    tables: dict[tuple[int, ...], Floats] = {}
    for name, cost in problem.costs.items():
        for factor in cost.factors:
            order = np.argsort(factor.units)
            units = tuple(int(factor.units[i]) for i in order)
            table = np.zeros((len(limits), *factor.table.shape))
            if name in limits:
                table[list(limits).index(name)] = factor.table / limits[name]
            table[:, np.isinf(factor.table)] = np.inf
            table = np.transpose(table, (0, *(order + 1)))
            if not len(limits):
                table = _barrier_only(factor.table, order)
            units, table = _drop_constant_axes(units, table)
            if table.any():
                tables[units] = tables[units] + table if units in tables else table
    blocks: dict[tuple[int, ...], Floats] = {}
    for units in sorted(tables, key=lambda scope: (-len(scope), scope)):
        host = next((scope for scope in blocks if set(units) <= set(scope)), units)
        shape = [problem.sizes[u] if u in units else 1 for u in host]
        table = tables[units].reshape(tables[units].shape[0], *shape)
        blocks[host] = blocks[host] + table if host in blocks else table
    constants = blocks.pop((), None)
    room = np.array([1.0 - problem.costs[name].constant / limit for name, limit in limits.items()])
    if constants is not None and len(limits):
        room = room - constants
    # The slack of `Problem.feasible`, less a margin for rounding.
    return [Block(units, np.ascontiguousarray(table)) for units, table in blocks.items()], room + 5e-10


def _barrier_only(table: Floats, order: NDArray[np.intp]) -> Floats:
    """Without limits one row remains, for what is forbidden."""
    barrier = np.where(np.isinf(table), np.inf, 0.0)
    return np.transpose(barrier[None], (0, *(order + 1)))


def _drop_constant_axes(units: tuple[int, ...], table: Floats) -> tuple[tuple[int, ...], Floats]:
    for position in reversed(range(len(units))):
        head = np.take(table, [0], axis=position + 1)
        if (table == head).all():
            table = np.take(table, 0, axis=position + 1)
            units = units[:position] + units[position + 1 :]
    return units, table


def flatten(problem: Problem) -> Arrays:
    """The problem as `Arrays`."""
    blocks, room = merge_blocks(problem)
    rows = max(len(room), 1)
    base, flat = [0], [np.zeros((0, rows))]
    per_unit: list[list[tuple[int, int]]] = [[] for _ in problem.sizes]
    for f, (units, table) in enumerate(blocks):
        flat.append(table.reshape(rows, -1).T)
        base.append(base[-1] + flat[-1].shape[0])
        strides = np.cumprod([1, *reversed(table.shape[2:])])[::-1]
        for unit, stride in zip(units, strides):
            per_unit[unit].append((f, int(stride)))
    pairs = np.array([pair for entries in per_unit for pair in entries], dtype=np.int64).reshape(-1, 2)
    return Arrays(
        quadratic=problem.energy.quadratic,
        linear=problem.energy.linear,
        offsets=problem.offsets,
        base=np.array(base[:-1], dtype=np.int64),
        tables=np.ascontiguousarray(np.concatenate(flat)),
        first=np.concatenate([[0], np.cumsum([len(entries) for entries in per_unit])]).astype(np.int64),
        block=np.ascontiguousarray(pairs[:, 0]),
        stride=np.ascontiguousarray(pairs[:, 1]),
        room=room if len(room) else np.array([np.inf]),
    )


def allowed_start(problem: Problem, blocks: Sequence[Block]) -> Ints:
    """A choice in which nothing is forbidden: everything kept where that is allowed, else the smallest found."""
    keep = np.zeros(len(problem.sizes), dtype=np.int64)
    if problem.allowed(keep):
        return keep
    tables: list[Table] = [(block.units, np.where(np.isinf(block.table[0]), np.inf, 0.0)) for block in blocks]
    return minimise_sum(problem.sizes, tables)[1]
