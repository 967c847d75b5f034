"""The problem as a mixed-integer linear programme on HiGHS, its energy held from below by tangents.

Variables: x, the options (one per unit); z, the joint configurations of each cost block of several units, whose
marginals are x; w, the energy's strongest eigen-directions; t, at least ``w^2 / 2`` for each of them, and at least what
the remaining quadratic form adds. Tangents of the squares are added where solutions violate them (outer approximation,
Duran and Grossmann 1986); one epigraph a direction needs far fewer of them than one for the whole energy (Vielma,
Dunning, Huchette and Lubin 2017).
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import highspy
import numpy as np
from scipy import sparse

from coldpress.solvers._convex import Convex
from coldpress.solvers._state import Block, Floats, Ints

_TOLERANCE = 1e-7  # of a tangent's violation, relative to the energy's scale


class _Rows(NamedTuple):
    """Rows of the programme: matrix, lower and upper limits."""

    matrix: Any
    lower: Floats
    upper: Floats


class Linear(NamedTuple):
    """A solution without integrality: value in energy, ``y``, its t, reduced costs; tight: no more tangents needed."""

    bound: float
    y: Floats
    held: Floats
    reduced: Floats
    tight: bool = True


class Outer:
    """A mixed-integer programme whose optimum is at most the energy of every allowed plan.

    Args:
        energy: convex, equal to the problem's on every plan.
        blocks: merged cost tables, in shares of the limits.
        room: share of each limit that there is for the blocks, shape ``(Q,)``.
        sizes: number of options of each unit.
        scale: energy that counts as 1 in the programme; its tolerances are relative to this.
        directions: at most so many eigen-directions get a square of their own.
    """

    def __init__(
        self,
        energy: Convex,
        blocks: list[Block],
        room: Floats,
        sizes: tuple[int, ...],
        *,
        scale: float,
        directions: int,
    ) -> None:
        self.energy, self.scale, self.sizes = energy, scale, sizes
        self.impossible = False
        self.offsets = np.concatenate([[0], np.cumsum(self.sizes)])
        options = int(self.offsets[-1])
        # Where y (all but each unit's first option) lies in x.
        self._places = np.concatenate([np.arange(a + 1, b) for a, b in zip(self.offsets, self.offsets[1:])])
        values, vectors = np.linalg.eigh(energy.quadratic / scale)
        values, vectors = values[::-1], vectors[:, ::-1]
        # Leaving out what is not even a millionth of the scale keeps the bound valid, and the programme small.
        strong = values > 1e-6 / max(len(sizes), 1)
        count = min(int(strong.sum()), directions)
        self._squares = vectors[:, :count] * np.sqrt(np.maximum(values[:count], 0.0))
        rest = np.where(strong, values, 0.0)[count:]
        self._rest = (vectors[:, count:] * rest) @ vectors[:, count:].T
        self._has_rest = bool(rest.any())

        rows, bars = [self._one_hot()], [np.zeros(options)]
        budgets: list[Any] = []
        width = options
        for block in blocks:
            if len(block.units) == 1:
                table = block.table
                bars[0][self.offsets[block.units[0]] : self.offsets[block.units[0] + 1]] += _barrier(table)
                budgets.append((int(self.offsets[block.units[0]]), _priced(table)))
                continue
            classes, table = _classes(block.table)
            rows.append(self._marginals(block, classes, table.shape[1:], width))
            budgets.append((width, _priced(table)))
            bars.append(_barrier(table))
            width += bars[-1].size
        # x, z, then w, then t.
        self._w = width
        self._t = width + count
        self.width = width + 2 * count + int(self._has_rest)
        rows.append(self._directions(options))
        if len(room):
            budget = sparse.lil_matrix((len(room), self.width))
            for at, part in budgets:
                budget[:, at : at + part.shape[1]] += part
            rows.append(_Rows(budget, np.full(len(room), -np.inf), room))
        self._highs = _programme(
            self._objective(), rows, np.concatenate([b.ravel() for b in bars]), self._w, self.width
        )

    @property
    def entries(self) -> int:
        """Number of variables that stand for joint configurations."""
        return self._w - int(self.offsets[-1])

    def options(self, y: Floats) -> Floats:
        """All options' x, shape ``(options,)``, of ``y``."""
        x = np.zeros(int(self.offsets[-1]))
        x[self._places] = y
        taken = np.add.reduceat(x, self.offsets[:-1])
        x[self.offsets[:-1]] = np.maximum(1.0 - taken, 0.0)
        return x

    def _objective(self) -> Floats:
        objective = np.zeros(self.width)
        objective[self._places] = self.energy.linear / self.scale
        objective[self._t :] = 1.0
        return objective

    def _one_hot(self) -> _Rows:
        unit = np.repeat(np.arange(len(self.sizes)), self.sizes)
        matrix = sparse.csr_matrix((np.ones(len(unit)), (unit, np.arange(len(unit)))))
        return _Rows(matrix, np.ones(len(self.sizes)), np.ones(len(self.sizes)))

    def _marginals(self, block: Block, classes: list[Ints], shape: tuple[int, ...], start: int) -> _Rows:
        """Per unit of the block and class of its options: the configurations with it sum to the options in it."""
        index = np.indices(shape).reshape(len(shape), -1)
        row, column, value = [], [], []
        base = 0
        for axis, (unit, of) in enumerate(zip(block.units, classes)):
            row += [base + index[axis], base + of]
            column += [start + np.arange(index.shape[1]), self.offsets[unit] + np.arange(len(of))]
            value += [np.ones(index.shape[1]), -np.ones(len(of))]
            base += shape[axis]
        matrix = sparse.csr_matrix(
            (np.concatenate(value), (np.concatenate(row), np.concatenate(column))), shape=(base, start + index.shape[1])
        )
        return _Rows(matrix, np.zeros(base), np.zeros(base))

    def _directions(self, options: int) -> _Rows:
        count = self._squares.shape[1]
        onto = sparse.csr_matrix(
            (np.ones(len(self._places)), (np.arange(len(self._places)), self._places)),
            shape=(len(self._places), options),
        )
        between = sparse.csr_matrix((count, self._w - options))
        matrix = sparse.hstack([sparse.csr_matrix(self._squares.T) @ onto, between, -sparse.identity(count)])
        return _Rows(matrix, np.zeros(count), np.zeros(count))

    def touch(self, y: Floats, held: Floats | None = None) -> int:
        """Add the tangents at ``y``, shape ``(m,)``; with ``held``, the t of a solution, only those it violates."""
        count = self._squares.shape[1]
        added = self._touch_squares(y @ self._squares, held)
        if self._has_rest:
            gradient = self._rest @ y
            level = 0.5 * float(y @ gradient)
            if held is None or held[count] < level - _TOLERANCE:
                columns = np.concatenate([[self._t + count], self._places]).astype(np.int32)
                self._highs.addRow(-level, highspy.kHighsInf, len(columns), columns, np.concatenate([[1.0], -gradient]))
                added += 1
        return added

    def _touch_squares(self, w: Floats, held: Floats | None = None) -> int:
        """Add ``t_k >= w_k (its variable) - w_k^2 / 2``, where ``held`` violates it if that is given."""
        wanted = np.arange(len(w)) if held is None else np.flatnonzero(held[: len(w)] < 0.5 * w**2 - _TOLERANCE)
        if len(wanted):
            columns = np.stack([self._t + wanted, self._w + wanted], axis=1).ravel().astype(np.int32)
            values = np.stack([np.ones(len(wanted)), -w[wanted]], axis=1).ravel()
            self._highs.addRows(
                len(wanted), -0.5 * w[wanted] ** 2, np.full(len(wanted), highspy.kHighsInf), len(columns),
                np.arange(0, len(columns), 2, dtype=np.int32), columns, values,
            )  # fmt: skip
        return len(wanted)

    def relax(self, seconds: float) -> Linear | None:
        """Solve without integrality; None when that is impossible (which ``impossible`` tells) or not done in time."""
        self._limit(seconds)
        self._highs.run()
        status = self._highs.getModelStatus()
        self.impossible = status == highspy.HighsModelStatus.kInfeasible
        if status != highspy.HighsModelStatus.kOptimal:
            return None
        solution = self._highs.getSolution()
        columns, reduced = np.array(solution.col_value), np.array(solution.col_dual)
        options = int(self.offsets[-1])
        value = float(self._highs.getInfo().objective_function_value) * self.scale + self.energy.constant
        return Linear(value, columns[self._places], columns[self._t :], reduced[:options] * self.scale)

    def surround(self, y: Floats, radius: float, points: int = 4) -> None:
        """Add tangents of every square on both sides of ``y``, as far as energy ``radius`` above the bound reaches."""
        reach = float(np.sqrt(2.0 * radius / self.scale))
        for step in np.linspace(-reach, reach, 2 * points + 1):
            self._touch_squares(y @ self._squares + step)

    def demand_integers(self) -> None:
        """From now on every option is taken or not."""
        options = int(self.offsets[-1])
        self._highs.changeColsIntegrality(
            options, np.arange(options, dtype=np.int32), np.full(options, highspy.HighsVarType.kInteger)
        )

    def search(self, seconds: float, gap: float, begin: Floats | None) -> tuple[float, list[Floats]]:
        """Branch and bound.

        Args:
            seconds: time allowed.
            gap: relative gap at which to stop.
            begin: x of a plan to begin with, shape ``(options,)``.

        Returns:
            The bound, in energy (+inf: nothing is allowed), and the ``y`` of all plans met, best last.
        """
        highs = self._highs
        found: list[Floats] = []
        deadline = time.perf_counter() + seconds

        def keep(event: Any) -> None:
            found.append(np.array(event.data_out.mip_solution)[self._places])

        def stop(event: Any) -> None:
            # HiGHS looks at its own limit too seldom.
            if time.perf_counter() > deadline:
                event.interrupt()

        self._limit(seconds)
        highs.setOptionValue("mip_rel_gap", gap)
        if begin is not None:
            highs.setSolution(len(begin), np.arange(len(begin), dtype=np.int32), begin)
        highs.cbMipImprovingSolution.subscribe(keep)
        highs.cbMipInterrupt.subscribe(stop)
        highs.run()
        highs.cbMipImprovingSolution.unsubscribe(keep)
        highs.cbMipInterrupt.unsubscribe(stop)
        if highs.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
            return np.inf, found
        if len(solution := highs.getSolution().col_value):
            found.append(np.array(solution)[self._places])
        return float(highs.getInfo().mip_dual_bound) * self.scale + self.energy.constant, found

    def _limit(self, seconds: float) -> None:
        self._highs.setOptionValue("time_limit", self._highs.getRunTime() + max(seconds, 0.01))


def _classes(table: Floats) -> tuple[list[Ints], Floats]:
    """Options that cost the same in every configuration share a class: class of every option, and the small table."""
    classes = []
    for axis in range(1, table.ndim):
        slices = np.moveaxis(table, axis, 0).reshape(table.shape[axis], -1)
        _, first, of = np.unique(slices, axis=0, return_index=True, return_inverse=True)
        table = np.take(table, first, axis=axis)
        classes.append(of.ravel())
    return classes, table


def _barrier(table: Floats) -> Floats:
    """+inf where forbidden, else 0: shape (entries,)."""
    return np.where(np.isinf(table[0]), np.inf, 0.0).ravel()


def _priced(table: Floats) -> Floats:
    """Shares ``(Q, entries)`` with 0 where forbidden."""
    return np.where(np.isinf(table), 0.0, table).reshape(table.shape[0], -1)


def _programme(objective: Floats, rows: list[_Rows], bars: Floats, binaries: int, width: int) -> Any:
    """A HiGHS instance: columns up to ``binaries`` in [0, 1] (closed where barred), then free ones and the t >= 0."""
    wide = [sparse.csr_matrix((r.matrix.tocsr().data, r.matrix.tocsr().indices, r.matrix.tocsr().indptr),
                              shape=(r.matrix.shape[0], width)) for r in rows]  # fmt: skip
    matrix = sparse.vstack(wide, format="csr")
    t = np.flatnonzero(objective[binaries:] == 1.0) + binaries
    lower, upper = np.zeros(width), np.full(width, highspy.kHighsInf)
    lower[binaries:] = -highspy.kHighsInf
    lower[t] = 0.0
    upper[:binaries] = np.where(np.isinf(bars), 0.0, 1.0)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = width, matrix.shape[0]
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = objective, lower, upper
    lp.row_lower_ = np.concatenate([r.lower for r in rows])
    lp.row_upper_ = np.concatenate([r.upper for r in rows])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("threads", 1)
    highs.setOptionValue("random_seed", 0)
    highs.passModel(lp)
    return highs
