"""Compiled moves on a state: change one unit, two units, anneal, repair and descend.

A state is four arrays that every move keeps up to date: ``choice`` (U,), ``field = linear + quadratic @ x`` (n,),
``index`` (F,) the row of each block's table, ``cost`` (Q,) in shares of the limits.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from coldpress.chance import draw
from coldpress.solvers._state import Arrays, Floats, Ints

_compiled = numba.njit(cache=True, nogil=True)
_inline = numba.njit(cache=True, nogil=True, inline="always")


@_compiled
def evaluate(a: Arrays, choice: Ints, field: Floats, index: Ints, cost: Floats) -> float:
    """Fill field, index and cost for ``choice``; returns its energy, constant left out."""
    field[:] = a.linear
    index[:] = a.base
    units = len(choice)
    for u in range(units):
        row = a.quadratic[a.offsets[u] + choice[u]]
        for i in range(len(field)):
            field[i] += row[i]
        for k in range(a.first[u], a.first[u + 1]):
            index[a.block[k]] += choice[u] * a.stride[k]
    energy = 0.0
    for u in range(units):
        i = a.offsets[u] + choice[u]
        energy += 0.5 * (field[i] + a.linear[i])
    cost[:] = 0.0
    for f in range(len(index)):
        for q in range(len(cost)):
            cost[q] += a.tables[index[f], q]
    return energy


@_inline
def harm_of_move(a: Arrays, choice: Ints, field: Floats, u: int, p: int) -> float:
    """Change of the energy when unit u takes option p."""
    old, new = a.offsets[u] + choice[u], a.offsets[u] + p
    return field[new] - field[old] + 0.5 * (a.quadratic[new, new] + a.quadratic[old, old]) - a.quadratic[new, old]


@_inline
def cost_of_move(a: Arrays, choice: Ints, index: Ints, cost: Floats, u: int, p: int, after: Floats) -> bool:
    """Fill ``after`` with the costs when unit u takes option p; False if that is forbidden."""
    after[:] = cost
    step = p - choice[u]
    for k in range(a.first[u], a.first[u + 1]):
        old = index[a.block[k]]
        new = old + step * a.stride[k]
        for q in range(len(after)):
            after[q] += a.tables[new, q] - a.tables[old, q]
    return after[0] < np.inf


@_inline
def violation(a: Arrays, cost: Floats) -> float:
    """Sum over the limits of the excess, in shares of the limit."""
    total = 0.0
    for q in range(len(cost)):
        total += max(0.0, cost[q] - a.room[q])
    return total


@_inline
def shift(a: Arrays, choice: Ints, index: Ints, u: int, p: int) -> None:
    """Move unit u to option p in choice and index alone."""
    step = p - choice[u]
    for k in range(a.first[u], a.first[u + 1]):
        index[a.block[k]] += step * a.stride[k]
    choice[u] = p


@_inline
def pull(a: Arrays, field: Floats, old: int, new: int) -> None:
    """Update the field for an option ``old`` given up for ``new`` (positions among all options)."""
    up, down = a.quadratic[new], a.quadratic[old]
    for i in range(len(field)):
        field[i] += up[i] - down[i]


@_compiled
def typical_move(a: Arrays, choice: Ints, random: NDArray[np.uint64], reads: int) -> tuple[float, float]:
    """Mean absolute change of energy and of violation-free cost over random single moves from ``choice``."""
    field, index, cost = np.empty(len(a.linear)), np.empty(len(a.base), np.int64), np.empty(len(a.room))
    evaluate(a, choice, field, index, cost)
    after = np.empty(len(cost))
    harm, weight, count = 0.0, 0.0, 0
    for _ in range(reads):
        u = int(draw(random) * len(choice))
        size = a.offsets[u + 1] - a.offsets[u]
        p = int(draw(random) * size)
        if p == choice[u] or not cost_of_move(a, choice, index, cost, u, p, after):
            continue
        harm += abs(harm_of_move(a, choice, field, u, p))
        weight += np.abs(after - cost).sum()
        count += 1
    return harm / max(count, 1), weight / max(count, 1)


@_inline
def priced(price: Floats, cost: Floats) -> float:
    """What the costs are charged at the price of each limit's share."""
    total = 0.0
    for q in range(len(cost)):
        total += price[q] * cost[q]
    return total


@_compiled
def anneal(
    a: Arrays,
    choice: Ints,
    temperatures: Floats,
    price: Floats,
    rate: float,
    best: Ints,
    best_energy: float,
    random: NDArray[np.uint64],
) -> float:
    """Run one sweep of random one- and two-unit moves per temperature; ``choice``, ``price`` and ``best`` change.

    Costs are charged at ``price`` (Q,), a Lagrange multiplier that rises by ``rate`` while its limit is exceeded and
    falls while there is room: inside the budget too a move is worth what it frees for others.
    Returns the energy of ``best`` (constant left out), the best feasible choice so far.
    """
    n, units = len(a.linear), len(choice)
    field, index, cost = np.empty(n), np.empty(len(a.base), np.int64), np.empty(len(a.room))
    energy = evaluate(a, choice, field, index, cost)
    one, two = np.empty(len(cost)), np.empty(len(cost))
    for sweep in range(len(temperatures)):
        t = temperatures[sweep]
        charged = priced(price, cost)
        for _ in range(n):
            u = int(draw(random) * units)
            size = a.offsets[u + 1] - a.offsets[u]
            if size < 2:
                continue
            p = int(draw(random) * (size - 1))
            p += p >= choice[u]
            harm = harm_of_move(a, choice, field, u, p)
            if not cost_of_move(a, choice, index, cost, u, p, one):
                continue
            charge = priced(price, one)
            change = harm + charge - charged
            if change <= 0.0 or draw(random) < np.exp(-change / t):
                old = a.offsets[u] + choice[u]
                shift(a, choice, index, u, p)
                pull(a, field, old, a.offsets[u] + p)
                cost[:] = one
            else:
                # The move alone was refused: try it together with one of a second unit that may pay for it.
                v = int(draw(random) * units)
                other = a.offsets[v + 1] - a.offsets[v]
                if v == u or other < 2:
                    continue
                r = int(draw(random) * (other - 1))
                r += r >= choice[v]
                ou, ov = a.offsets[u] + choice[u], a.offsets[v] + choice[v]
                nu, nv = a.offsets[u] + p, a.offsets[v] + r
                harm += harm_of_move(a, choice, field, v, r)
                harm += a.quadratic[nu, nv] - a.quadratic[nu, ov] - a.quadratic[ou, nv] + a.quadratic[ou, ov]
                if harm - charged > 20.0 * t:
                    continue
                before = choice[u]
                shift(a, choice, index, u, p)
                if not cost_of_move(a, choice, index, one, v, r, two):
                    shift(a, choice, index, u, before)
                    continue
                charge = priced(price, two)
                change = harm + charge - charged
                if change > 0.0 and draw(random) >= np.exp(-change / t):
                    shift(a, choice, index, u, before)
                    continue
                shift(a, choice, index, v, r)
                pull(a, field, ou, nu)
                pull(a, field, ov, nv)
                cost[:] = two
            energy += harm
            charged = charge
            if energy < best_energy and violation(a, cost) <= 0.0:
                best_energy = energy
                best[:] = choice
        for q in range(len(price)):
            if a.room[q] < np.inf:
                price[q] *= np.exp(rate * min(max(10.0 * (cost[q] - a.room[q]), -1.0), 1.0))
        if sweep % 64 == 63:
            energy = evaluate(a, choice, field, index, cost)  # wipes out rounding drift
    return best_energy


@_compiled
def repair(a: Arrays, choice: Ints) -> bool:
    """Bring ``choice`` inside the budget by the moves with the least harm per excess removed; True on success."""
    field, index, cost = np.empty(len(a.linear)), np.empty(len(a.base), np.int64), np.empty(len(a.room))
    evaluate(a, choice, field, index, cost)
    after = np.empty(len(cost))
    excess = violation(a, cost)
    while excess > 0.0:
        best_ratio, best_u, best_p = np.inf, -1, -1
        for u in range(len(choice)):
            for p in range(a.offsets[u + 1] - a.offsets[u]):
                if p == choice[u] or not cost_of_move(a, choice, index, cost, u, p, after):
                    continue
                gain = excess - violation(a, after)
                if gain > 1e-15:
                    harm = harm_of_move(a, choice, field, u, p)
                    ratio = harm / gain if harm > 0 else harm * gain
                    if ratio < best_ratio:
                        best_ratio, best_u, best_p = ratio, u, p
        if best_u < 0:
            return False
        choice[best_u] = best_p
        evaluate(a, choice, field, index, cost)
        excess = violation(a, cost)
    return True


@_compiled
def descend(a: Arrays, choice: Ints, max_passes: int) -> float:
    """Take improving one- and two-unit moves inside the budget until there is none; returns the energy."""
    n, units = len(a.linear), len(choice)
    field, index, cost = np.empty(n), np.empty(len(a.base), np.int64), np.empty(len(a.room))
    energy = evaluate(a, choice, field, index, cost)
    one, two = np.empty(len(cost)), np.empty(len(cost))
    for _ in range(max_passes):
        least = -1e-10 * (abs(energy) + 1e-300)
        improved = False
        for u in range(units):
            for p in range(a.offsets[u + 1] - a.offsets[u]):
                if p == choice[u] or not cost_of_move(a, choice, index, cost, u, p, one):
                    continue
                harm = harm_of_move(a, choice, field, u, p)
                ou, nu = a.offsets[u] + choice[u], a.offsets[u] + p
                if violation(a, one) <= 0.0 and harm < least:
                    shift(a, choice, index, u, p)
                    pull(a, field, ou, nu)
                    cost[:] = one
                    energy += harm
                    improved = True
                    continue
                before = choice[u]
                shift(a, choice, index, u, p)
                best, best_v, best_r = least, -1, -1
                for v in range(units):
                    if v == u:
                        continue
                    ov = a.offsets[v] + choice[v]
                    fixed = harm - a.quadratic[nu, ov] + a.quadratic[ou, ov] - field[ov] + 0.5 * a.quadratic[ov, ov]
                    for r in range(a.offsets[v + 1] - a.offsets[v]):
                        nv = a.offsets[v] + r
                        total = fixed + field[nv] + 0.5 * a.quadratic[nv, nv] - a.quadratic[nv, ov]
                        total += a.quadratic[nu, nv] - a.quadratic[ou, nv]
                        if total >= best or r == choice[v]:
                            continue
                        if cost_of_move(a, choice, index, one, v, r, two) and violation(a, two) <= 0.0:
                            best, best_v, best_r = total, v, r
                if best_v < 0:
                    shift(a, choice, index, u, before)
                    continue
                ov = a.offsets[best_v] + choice[best_v]
                shift(a, choice, index, best_v, best_r)
                pull(a, field, ou, nu)
                pull(a, field, ov, a.offsets[best_v] + best_r)
                energy = evaluate(a, choice, field, index, cost)
                improved = True
        energy = evaluate(a, choice, field, index, cost)
        if not improved:
            break
    return energy


def polish(a: Arrays, choice: Ints) -> tuple[Ints, bool]:
    """A repaired and locally optimal copy of ``choice``, and whether it is inside the budget."""
    polished = choice.copy()
    if not repair(a, polished):
        return polished, False
    descend(a, polished, 50)
    return polished, True


def generator(seed: int, stream: int = 0) -> NDArray[np.uint64]:
    """State for `draw`: one word from the seed and a stream number."""
    words: Any = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)
    return np.maximum(words, np.uint64(1))
