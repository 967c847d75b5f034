"""QAOA on a state vector: energies of all states, layers in place, and the gradient by going back through them.

Index bits are variables, variable i with value 2^i. The mixer is ``B = sum_i B_i``, ``B_i = -(sin t_i X + cos t_i Z)``,
whose ground state ``cos(t_i / 2) |0> + sin(t_i / 2) |1>`` is the start; t = pi / 2 is the standard one. A layer is
``exp(-i beta B) exp(-i gamma C)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldpress.samplers._model import Floats, Model

Complex = NDArray[np.complex128]
GROUP = 5
"""Qubits that a mixer's matrix acts on at once."""


def all_energies(model: Model) -> Floats:
    """Energies of all states of a binary ``model``, (2^n,): each variable doubles those before it."""
    n, matrix = len(model), model.matrix()
    energies = np.full(1 << n, model.offset)
    for i in range(n):
        field = np.full(1 << i, model.linear[i])
        for j in range(i):
            field[1 << j : 2 << j] = field[: 1 << j] + matrix[i, j]
        energies[1 << i : 2 << i] = energies[: 1 << i] + field
    return energies


@dataclass(frozen=True)
class Circuit:
    """What the layers are made of.

    Attributes:
        phases: (2^n,) energies, centred and scaled.
        tilts: (n,) angles t of the mixer, radians.
    """

    phases: Floats
    tilts: Floats

    def start(self) -> Complex:
        """The mixer's ground state, (2^n,)."""
        state = np.ones(1)
        for tilt in self.tilts:
            state = np.concatenate([np.cos(tilt / 2) * state, np.sin(tilt / 2) * state])
        return state.astype(np.complex128)

    def run(self, angles: Floats) -> Complex:
        """The state (2^n,) after the layers ``angles`` (2, p): gammas, then betas, radians."""
        state = self.start()
        for gamma, beta in angles.T:
            state *= np.exp(-1j * gamma * self.phases)
            state = self._mixed(state, beta)
        return state

    def value(self, state: Complex) -> float:
        """The mean of the phases."""
        return float((state.real**2 + state.imag**2) @ self.phases)

    def value_and_gradient(self, angles: Floats) -> tuple[float, Floats]:
        """The mean of the phases after the layers, and its derivative by ``angles`` (2, p)."""
        state = self.run(angles)
        value, gradient = self.value(state), np.empty_like(angles)
        back = self.phases * state
        for layer in reversed(range(angles.shape[1])):
            gamma, beta = angles[:, layer]
            gradient[1, layer] = 2.0 * np.vdot(back, self._hamiltonian(state)).imag
            state, back = self._mixed(state, -beta), self._mixed(back, -beta)
            gradient[0, layer] = 2.0 * np.vdot(back, self.phases * state).imag
            turn = np.exp(1j * gamma * self.phases)
            state *= turn
            back *= turn
        return value, gradient

    def _terms(self, tilts: Floats) -> Complex:
        """The matrices -B_i, (k, 2, 2)."""
        sines, cosines = np.sin(tilts), np.cos(tilts)
        return np.array([[cosines, sines], [sines, -cosines]]).transpose(2, 0, 1).astype(np.complex128)

    def _mixed(self, state: Complex, beta: float) -> Complex:
        """``exp(-i beta B)`` applied."""
        for low in range(0, len(self.tilts), GROUP):
            turns = np.cos(beta) * np.eye(2) + 1j * np.sin(beta) * self._terms(self.tilts[low : low + GROUP])
            matrix = np.ones((1, 1))
            for turn in turns:
                matrix = np.kron(turn, matrix)
            state = _applied(matrix, state, low)
        return state

    def _hamiltonian(self, state: Complex) -> Complex:
        """``B`` applied."""
        total = np.zeros_like(state)
        for low in range(0, len(self.tilts), GROUP):
            terms = self._terms(self.tilts[low : low + GROUP])
            matrix = sum(
                np.kron(np.kron(np.eye(1 << (len(terms) - 1 - i)), term), np.eye(1 << i))
                for i, term in enumerate(terms)
            )
            total -= _applied(np.asarray(matrix), state, low)
        return total


def _applied(matrix: NDArray[Any], state: Complex, low: int) -> Complex:
    """``matrix`` (2^k, 2^k) applied to the qubits from ``low`` on."""
    if low == 0:
        return (state.reshape(-1, len(matrix)) @ matrix.T).reshape(-1)
    result: Complex = (matrix @ state.reshape(-1, len(matrix), 1 << low)).reshape(-1)
    return result
