"""The relaxation of a `Selection` to fractions, by a primal-dual interior point method, and its certified bound.

With y = factor^T x the Newton system is diagonal plus rank r plus one row a constraint, so a step costs n r^2 and
about twenty suffice, where Frank-Wolfe needs thousands for the same accuracy. Any y and any prices p >= 0 prove

    energy(x) >= p . floors - |y|^2 / 2 + sum_i min(0, linear_i + factor_i . y - (rows^T p)_i)

for every x that meets ``rows x >= floors`` (Lagrange duality), so the bound needs no trust in the method's convergence;
what rounding may add to it is taken off.

Sources: S. Mehrotra, "On the implementation of a primal-dual interior point method", SIAM J. Optim. 2, 1992; the
low-rank step: S. Fine and K. Scheinberg, "Efficient SVM training using low-rank kernel representations", JMLR 2, 2001.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import linalg

from coldpress.selection import Bools, Floats, Selection

_CHUNK = 4096
_STEPS = 100
_BACK = 0.99  # of the way to the nearest wall


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Fractions ``x`` (n,), the bound, each unit's reduced cost ``prices`` (n,), and whether the method converged."""

    x: Floats
    bound: float
    prices: Floats
    converged: bool


class Rows(NamedTuple):
    """Constraints ``matrix @ x >= floors``, equations where ``equal``: ``(rows, n)``, ``(rows,)``, ``(rows,)``."""

    matrix: Floats
    floors: Floats
    equal: Bools


@dataclass
class _Point:
    """Where the method is: x, the multipliers of x >= 0 and x <= 1, prices and slack of the rows."""

    x: Floats
    low: Floats
    high: Floats
    prices: Floats
    slack: Floats


class _Step(NamedTuple):
    x: Floats
    low: Floats
    high: Floats
    prices: Floats
    slack: Floats


def rows_of(problem: Selection) -> Rows:
    """The budgets and the groups' limits that may bind, each row's largest entry 1."""
    matrix, floors, equal = [], [], []
    for gain, need in zip(problem.gains, problem.needs):
        scale = float(gain.max()) or 1.0
        matrix.append(gain / scale)
        floors.append(need / scale)
        equal.append(False)
    for g, (least, most, size) in enumerate(zip(problem.least, problem.most, np.bincount(problem.groups))):
        inside = (problem.groups == g).astype(np.float64)
        if least == most or least > 0:
            matrix.append(inside)
            floors.append(float(least))
            equal.append(bool(least == most))
        if least < most < size:
            matrix.append(-inside)
            floors.append(-float(most))
            equal.append(False)
    n = len(problem)
    return Rows(np.array(matrix).reshape(-1, n), np.array(floors, np.float64), np.array(equal, np.bool_))


def relax(problem: Selection, deadline: float = np.inf, tolerance: float = 1e-7) -> Relaxed:
    """Solve the relaxation, or come as far as the time goes: the bound holds at any point.

    Args:
        problem: whose groups all leave something to decide.
        deadline: stop at this `time.perf_counter()`.
        tolerance: of the duality gap, relative to the value.
    """
    rows = rows_of(problem)
    point = _begin(problem, rows)
    best, first, converged = -np.inf, 0.0, False
    prices = np.zeros(len(problem))
    for step in range(_STEPS):
        y = problem.factor.T @ point.x
        gradient = problem.linear + problem.factor @ y
        value = float(problem.linear @ point.x + 0.5 * y @ y)
        reduced = gradient - point.prices @ rows.matrix
        bound = _bound(problem, rows, y, point.prices, reduced)
        if bound > best or step == 0:
            best, prices = bound, reduced
        first = first or abs(value)
        missing = rows.floors - rows.matrix @ point.x + point.slack
        met = float(np.abs(missing).max(initial=0.0)) <= 1e-6 * (1.0 + float(np.abs(rows.floors).max(initial=0.0)))
        if met and value - bound <= tolerance * (abs(value) + 1e-9 * first):
            converged = True
            break
        if time.perf_counter() > deadline:
            break
        try:
            with np.errstate(all="ignore"):  # where nothing is feasible multipliers run away
                _advance(problem, rows, point, reduced - point.low + point.high, missing)
        except (linalg.LinAlgError, FloatingPointError, ValueError):
            break  # as close as rounding lets it come
    return Relaxed(point.x, best, prices, converged)


def _bound(problem: Selection, rows: Rows, y: Floats, prices: Floats, reduced: Floats) -> float:
    """The Lagrangian's least value, less what rounding in its sums may have added."""
    half, paid = 0.5 * float(y @ y), float(prices @ rows.floors)
    value = paid - half + float(np.minimum(reduced, 0.0).sum())
    lengths = np.sqrt(2.0 * problem.own) * float(np.sqrt(2.0 * half))
    size = float((np.abs(problem.linear) + lengths + np.abs(prices) @ np.abs(rows.matrix)).sum())
    size += half + float(np.abs(prices) @ np.abs(rows.floors))
    return value - np.finfo(np.float64).eps * (sum(problem.factor.shape) + len(prices) + 8) * size


def _begin(problem: Selection, rows: Rows) -> _Point:
    """Inside the box, with multipliers of the size of the gradient."""
    sizes = np.bincount(problem.groups)
    x = np.clip((problem.least + problem.most) / (2.0 * sizes), 0.01, 0.99)[problem.groups]
    gradient = problem.linear + problem.factor @ (problem.factor.T @ x)
    prices = np.zeros(len(rows.floors))
    for i in np.flatnonzero(rows.equal):
        prices[i] = np.median(gradient[rows.matrix[i] > 0])
    reduced = gradient - prices @ rows.matrix
    size = max(float(np.abs(reduced).mean()), 1e-12)
    low, high = np.maximum(reduced, 0.0) + size, np.maximum(-reduced, 0.0) + size
    slack = np.where(rows.equal, 0.0, np.maximum(rows.matrix @ x - rows.floors, 0.1 * (1.0 + np.abs(rows.floors))))
    prices[~rows.equal] = float((x @ low + (1 - x) @ high) / (2 * len(x))) / slack[~rows.equal]
    return _Point(x, low, high, prices, slack)


def _advance(problem: Selection, rows: Rows, point: _Point, residual: Floats, missing: Floats) -> None:
    """A predictor and a corrector step, in place."""
    x, other, loose = point.x, 1.0 - point.x, ~rows.equal
    pairs = 2 * len(x) + int(loose.sum())

    def centre(step: _Step | None, length: float) -> float:
        """Mean product of a wall's distance and its multiplier after so much of a step."""
        moved = [x, point.low, other, point.high, point.slack, point.prices]
        if step is not None:
            changes = [step.x, step.low, -step.x, step.high, step.slack, step.prices]
            moved = [value + length * change for value, change in zip(moved, changes)]
        total = moved[0] @ moved[1] + moved[2] @ moved[3] + moved[4][loose] @ moved[5][loose]
        return float(total) / pairs

    inverse = 1.0 / (point.low / x + point.high / other)
    rank = problem.factor.shape[1]
    gram = _gram(problem, rows, inverse)
    system = gram.copy()
    system[:rank, rank:] *= -1.0
    system[rank:, :rank] *= -1.0
    system[:rank, :rank] += np.eye(rank)
    lean = np.zeros(len(rows.floors))
    lean[loose] = point.slack[loose] / point.prices[loose]
    # equations that follow from others would make the system singular
    lean[rows.equal] = 1e-13 * np.diag(gram)[rank:][rows.equal]
    system[rank:, rank:] += np.diag(lean)
    solved = linalg.lu_factor(system)

    def direction(low: Floats, high: Floats, slack: Floats) -> _Step:
        """The Newton step that brings the products to these changes."""
        wanted = -residual + low / x - high / other
        scaled = inverse * wanted
        right = np.concatenate([problem.factor.T @ scaled, missing - rows.matrix @ scaled])
        right[rank:][loose] += slack[loose] / point.prices[loose]
        found = linalg.lu_solve(solved, right)
        move = inverse * (wanted - problem.factor @ found[:rank] + found[rank:] @ rows.matrix)
        give = np.zeros(len(rows.floors))
        give[loose] = (slack[loose] - point.slack[loose] * found[rank:][loose]) / point.prices[loose]
        return _Step(move, (low - point.low * move) / x, (high + point.high * move) / other, found[rank:], give)

    now = centre(None, 0.0)
    guess = direction(-x * point.low, -other * point.high, -point.slack * point.prices)
    target = now * (centre(guess, _length(point, guess, loose)) / now) ** 3
    step = direction(
        target - x * point.low - guess.x * guess.low,
        target - other * point.high + guess.x * guess.high,
        target - point.slack * point.prices - guess.slack * guess.prices,
    )
    length = _BACK * _length(point, step, loose)
    if not np.isfinite(step.x).all() or not np.isfinite(step.prices).all():
        raise FloatingPointError("the Newton step is not finite")
    point.x, point.low, point.high = x + length * step.x, point.low + length * step.low, point.high + length * step.high
    point.prices, point.slack = point.prices + length * step.prices, point.slack + length * step.slack


def _gram(problem: Selection, rows: Rows, inverse: Floats) -> Floats:
    """``[factor, rows^T]^T diag(inverse) [factor, rows^T]``, in pieces: no second array of the factor's size."""
    width = problem.factor.shape[1] + len(rows.floors)
    total = np.zeros((width, width))
    for start in range(0, len(problem), _CHUNK):
        part = slice(start, start + _CHUNK)
        piece = np.concatenate([problem.factor[part], rows.matrix[:, part].T], axis=1)
        piece *= np.sqrt(inverse[part])[:, None]
        total += piece.T @ piece
    return total


def _length(point: _Point, step: _Step, loose: Bools) -> float:
    """How much of a step can be taken before a wall, at most 1."""
    longest = 1.0
    for value, change in (
        (point.x, step.x),
        (1.0 - point.x, -step.x),
        (point.low, step.low),
        (point.high, step.high),
        (point.slack[loose], step.slack[loose]),
        (point.prices[loose], step.prices[loose]),
    ):
        down = change < 0
        if down.any():
            longest = min(longest, float((-value[down] / change[down]).min()))
    return longest
