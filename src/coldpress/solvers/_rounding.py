"""From the relaxation's fractions to a feasible selection, and from there down to one that no exchange betters."""

from __future__ import annotations

import time

import numpy as np

from coldpress.selection import Bools, Floats, Selection
from coldpress.solvers._interior import Relaxed

CANDIDATES = 64
"""The most promising units of either side whose exchanges are looked at, all against all."""


def round_down(problem: Selection, relaxed: Relaxed) -> Bools | None:
    """The largest fractions go, until every group and every budget has its due; None where that was not found.

    Returns:
        A feasible selection, ``(n,)``.
    """
    chosen = relaxed.x > 0.5
    order = np.argsort(-relaxed.x, kind="stable")
    for g, (least, most) in enumerate(zip(problem.least, problem.most)):
        members = order[problem.groups[order] == g]
        count = int(np.clip(chosen[members].sum(), least, most))
        chosen[members] = np.arange(len(members)) < count
    slack, counts = problem.slack(chosen), problem.counts(chosen)
    tolerance = 1e-9 * np.abs(problem.needs)
    scale = problem.gains.max(axis=1, initial=0.0) + 1e-300
    while (slack < -tolerance).any():
        short = np.maximum(-slack, 0.0)
        useful = np.minimum(problem.gains, short[:, None]).T @ (1.0 / scale)
        useful[chosen | (counts >= problem.most)[problem.groups]] = 0.0
        able = useful > 0
        if not able.any():
            return None
        # what goes anyway in the relaxation first, then what is cheap for what it frees
        rank = np.where(able, (np.maximum(relaxed.prices, 0.0) + 1e-12) / np.where(able, useful, 1.0), np.inf)
        i = int(np.lexsort((rank, -np.where(able, np.round(relaxed.x, 3), -1.0)))[0])
        chosen[i] = True
        slack += problem.gains[:, i]
        counts[problem.groups[i]] += 1
    return chosen


def descend(problem: Selection, start: Bools, deadline: float = np.inf) -> Bools:
    """Carry out the best exchange or single move among the most promising units, until none lowers the energy.

    Each costs one pass over the factor. Feasible selections stay so, and the energy never rises.

    Args:
        problem: what to minimise.
        start: a feasible selection, ``(n,)``; it is not changed.
        deadline: stop at this `time.perf_counter()`.
    """
    chosen = start.copy()
    gradient = problem.linear + problem.factor @ (chosen.astype(np.float64) @ problem.factor)
    counts, slack = problem.counts(chosen), problem.slack(chosen)
    least_gain = 1e-12 * (float(np.abs(gradient).mean()) + 1e-300)
    while time.perf_counter() < deadline:
        move = _best_move(problem, chosen, gradient, counts, slack)
        if move is None or move[0] > -least_gain:
            break
        _, leaves, enters = move
        change = np.zeros(problem.factor.shape[1])
        for i, sign in ((leaves, -1), (enters, 1)):
            if i is not None:
                change += sign * problem.factor[i]
                slack += sign * problem.gains[:, i]
                counts[problem.groups[i]] += sign
                chosen[i] = sign > 0
        gradient += problem.factor @ change
    return chosen


def _best_move(
    problem: Selection, chosen: Bools, gradient: Floats, counts: np.ndarray, slack: Floats
) -> tuple[float, int | None, int | None] | None:
    """The least change of the energy with the unit that stays after all and the unit that goes, or None for neither."""
    on, off = np.flatnonzero(chosen), np.flatnonzero(~chosen)
    leaving, entering = problem.own[on] - gradient[on], problem.own[off] + gradient[off]
    first, second = _lowest(leaving), _lowest(entering)
    outs, ins = on[first], off[second]
    # the last row and the last column are of nobody, for single moves
    change = np.append(leaving[first], 0.0)[:, None] + np.append(entering[second], 0.0)
    change[:-1, :-1] -= problem.factor[outs] @ problem.factor[ins].T
    none = np.array([-1])
    groups_out, groups_in = (np.append(problem.groups[units], none) for units in (outs, ins))
    may_leave = np.append((counts > problem.least)[problem.groups[outs]], True)
    may_enter = np.append((counts < problem.most)[problem.groups[ins]], True)
    allowed = (groups_out[:, None] == groups_in) | (may_leave[:, None] & may_enter)
    for gain, left in zip(problem.gains, slack):
        allowed &= np.append(gain[ins], 0.0) - np.append(gain[outs], 0.0)[:, None] + max(left, 0.0) >= 0.0
    change[~allowed] = np.inf
    change[-1, -1] = np.inf
    a, b = np.unravel_index(int(change.argmin()), change.shape)
    if not np.isfinite(change[a, b]):
        return None
    return float(change[a, b]), int(outs[a]) if a < len(outs) else None, int(ins[b]) if b < len(ins) else None


def _lowest(values: Floats) -> np.ndarray:
    if len(values) <= CANDIDATES:
        return np.arange(len(values))
    return np.sort(np.argpartition(values, CANDIDATES)[:CANDIDATES])
