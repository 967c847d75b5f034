"""Compiled annealing of ``diagonal . x + sum_k weights_k (factor^T x)_k^2``.

A state is ``bits`` (n,) and ``pull = 2 weights * (factor^T x)`` (r,). Turning i on or off (c = 1 or -1) changes the
energy by ``c (diagonal_i + factor_i . pull) + own_i`` with ``own_i = sum_k weights_k factor_ik^2``, and pull by
``2 c weights * factor_i``: r numbers each, however many variables there are.
"""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from coldpress.chance import draw
from coldpress.samplers._model import Bits, Floats, Ints

_compiled = numba.njit(cache=True, nogil=True)
_vector = numba.njit(cache=True, nogil=True, fastmath={"nnan", "ninf", "nsz", "reassoc", "contract"})


class Form(NamedTuple):
    """The energy: ``diagonal`` (n,), ``factor`` (n, r) by rows, ``weights`` (r,), ``own`` (n,)."""

    diagonal: Floats
    factor: Floats
    weights: Floats
    own: Floats


def energies(form: Form, bits: NDArray[Any]) -> Floats:
    """Energies of states (reads, n), computed anew, shape (reads,)."""
    values = bits.astype(np.float64)
    result: Floats = values @ form.diagonal + (values @ form.factor) ** 2 @ form.weights
    return result


def pull_of(form: Form, bits: Bits) -> Floats:
    """The state's pull (r,), computed anew."""
    result: Floats = 2.0 * form.weights * (bits.astype(np.float64) @ form.factor)
    return result


@_vector
def _dot(a: Floats, b: Floats) -> float:
    total = 0.0
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@_vector
def _exchange(form: Form, pull: Floats, i: int, j: int) -> float:
    """The energy's change where i goes off and j on."""
    off, on, total = form.factor[i], form.factor[j], 0.0
    for k in range(len(pull)):
        step = on[k] - off[k]
        total += step * (pull[k] + form.weights[k] * step)
    return total + form.diagonal[j] - form.diagonal[i]


@_vector
def _move(form: Form, pull: Floats, i: int, change: float) -> None:
    row = form.factor[i]
    for k in range(len(pull)):
        pull[k] += 2.0 * change * form.weights[k] * row[k]


@_compiled
def anneal_flips(
    form: Form, bits: Bits, pull: Floats, temperatures: Floats, best: Bits, energy: Floats, random: NDArray[np.uint64]
) -> int:
    """A Metropolis sweep of flips a temperature, 0 for descent; returns the flips made.

    ``energy`` (2,) holds that of ``bits`` and that of ``best``, and both are kept up to date after every sweep.
    """
    made = 0
    least = 1e-12 * (abs(energy[0]) + 1e-300)
    for t in temperatures:
        for i in range(len(bits)):
            c = 1.0 - 2.0 * bits[i]
            change = c * (form.diagonal[i] + _dot(form.factor[i], pull)) + form.own[i]
            if change > -least and (change > 20.0 * t or t == 0.0 or draw(random) >= np.exp(-change / t)):
                continue
            bits[i] = 1 - bits[i]
            _move(form, pull, i, c)
            energy[0] += change
            made += 1
        if energy[0] < energy[1]:
            energy[1] = energy[0]
            best[:] = bits
    return made


@_compiled
def anneal_exchanges(
    form: Form,
    bits: Bits,
    on: Ints,
    off: Ints,
    pull: Floats,
    temperatures: Floats,
    best: Bits,
    energy: Floats,
    random: NDArray[np.uint64],
) -> None:
    """As `anneal_flips`, by exchanges of a one (their places in ``on``) with a zero (``off``) drawn at random."""
    for t in temperatures:
        for m in range(len(bits)):
            a, b = m % len(on), int(draw(random) * len(off))
            i, j = on[a], off[b]
            change = _exchange(form, pull, i, j)
            if change > 0.0 and (change > 20.0 * t or draw(random) >= np.exp(-change / t)):
                continue
            bits[i], bits[j] = 0, 1
            on[a], off[b] = j, i
            _move(form, pull, i, -1.0)
            _move(form, pull, j, 1.0)
            energy[0] += change
        if energy[0] < energy[1]:
            energy[1] = energy[0]
            best[:] = bits


def exchange_best(form: Form, bits: Bits, pull: Floats, candidates: int = 64) -> bool:
    """Carry out the best exchange among the most promising ones and zeros; False where none lowers the energy."""
    field = form.diagonal + form.factor @ pull
    on, off = np.flatnonzero(bits), np.flatnonzero(bits == 0)
    leaving, entering = form.own[on] - field[on], form.own[off] + field[off]
    first = np.argsort(leaving, kind="stable")[:candidates]
    second = np.argsort(entering, kind="stable")[:candidates]
    rows, columns = form.factor[on[first]], form.factor[off[second]]
    change = leaving[first][:, None] + entering[second] - 2.0 * (rows * form.weights) @ columns.T
    a, b = np.unravel_index(int(change.argmin()), change.shape)
    if change[a, b] >= -1e-12 * float(np.abs(field).max() + 1e-300):
        return False
    i, j = on[first[a]], off[second[b]]
    bits[i], bits[j] = 0, 1
    pull += 2.0 * form.weights * (form.factor[j] - form.factor[i])
    return True


@_compiled
def typical_change(form: Form, bits: Bits, pull: Floats, exchanges: bool, tries: int, random: Any) -> float:
    """Mean size of the energy's change by random moves from this state."""
    total, n = 0.0, len(bits)
    for _ in range(tries):
        i = int(draw(random) * n)
        if exchanges:
            total += abs(_exchange(form, pull, i, int(draw(random) * n)))
        else:
            c = 1.0 - 2.0 * bits[i]
            total += abs(c * (form.diagonal[i] + _dot(form.factor[i], pull)) + form.own[i])
    return total / tries
