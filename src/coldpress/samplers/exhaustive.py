"""All states of a small model, in Gray code order, compiled (F. Gray, US patent 2632058, 1953)."""
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any, ClassVar

import dimod
import numba
import numpy as np

from coldpress.samplers._arguments import clock, listed, whole
from coldpress.samplers._model import Floats, Ints, empty_set, limit, read, sample_set

METHOD = "exhaustive enumeration, classical, exact"
MOST_VARIABLES = 24
MOST_STATES = 1 << 16
"""Ground states that are returned at most."""
TIED = 1e-10
"""Energies that differ by less, relative to the largest possible size, are the same."""
_FRESH = 4096  # states after which the fields are computed anew, against rounding


class ExhaustiveSampler(dimod.Sampler):
    """Enumerates all 2^n states of up to 24 variables: exact, about a second at the limit.

    Neighbours in the Gray code differ in one bit, so a state costs n additions.

    Example:
        >>> import dimod
        >>> bqm = dimod.BinaryQuadraticModel({}, {("a", "b"): 1, ("b", "c"): 1, ("a", "c"): 1}, 0.0, "SPIN")
        >>> ground = ExhaustiveSampler().sample(bqm)
        >>> len(ground), float(ground.first.energy)
        (6, -1.0)
    """

    parameters: ClassVar[dict[str, list[str]]] = listed("num_reads", "seed")
    properties: ClassVar[dict[str, Any]] = {"method": METHOD, "max_num_variables": MOST_VARIABLES}

    def sample(
        self, bqm: Any, *, num_reads: int | None = None, seed: int | None = None, **kwargs: Any
    ) -> dimod.SampleSet:
        """The ground states, or the lowest states.

        Args:
            bqm: a `dimod.BinaryQuadraticModel` of at most 24 variables.
            num_reads: how many of the lowest states, at most all; by default all ground states (65,536 at most;
                ``info["ground_states"]`` says how many there are).
            seed: taken and checked as by the other samplers; nothing here is random.
            **kwargs: of other samplers; ignored with a warning.

        Returns:
            Distinct samples, lowest first, with ``info`` (method, seconds, ground_states).

        Raises:
            SamplerError: too many variables, a bias is not a finite number, or an argument is out of its range.
        """
        self.remove_unknown_kwargs(**kwargs)
        time = clock(None)
        reads = None if num_reads is None else whole("num_reads", num_reads, 1)
        if seed is not None:
            whole("seed", seed, 0)
        model = read(bqm)
        limit("ExhaustiveSampler", model, MOST_VARIABLES, "it enumerates 2^n states")
        if len(model) == 0:
            return empty_set(bqm, method=METHOD, seconds=time.seconds)
        binary = model.as_binary()
        matrix, n = binary.matrix(), len(model)
        tie = TIED * float(np.abs(binary.linear).sum() + np.abs(binary.weights).sum())
        codes, count = _ground(binary.linear, matrix, tie, MOST_STATES)
        if reads is not None:
            codes = _lowest(binary.linear, matrix, min(reads, 1 << n))
        bits = codes[:, None] >> np.arange(n) & 1
        return sample_set(bqm, model, bits, method=METHOD, seconds=time.seconds, ground_states=int(count))


@numba.njit(cache=True, nogil=True, inline="always")
def _step(linear: Floats, matrix: Floats, field: Floats, x: Floats, energy: float, index: int) -> tuple[float, int]:
    """Go from the Gray code of ``index - 1`` to that of ``index``; the new energy and code."""
    n = len(linear)
    code = index ^ (index >> 1)
    if index % _FRESH == 0:
        energy = 0.0
        for i in range(n):
            x[i] = float((code >> i) & 1)
        for i in range(n):
            field[i] = linear[i]
            for k in range(n):
                field[i] += matrix[i, k] * x[k]
            energy += 0.5 * x[i] * (field[i] + linear[i])
        return energy, code
    j = 0
    while (index >> j) & 1 == 0:
        j += 1
    change = 1.0 - 2.0 * x[j]
    energy += change * field[j]
    x[j] += change
    for i in range(n):
        field[i] += change * matrix[j, i]
    return energy, code


@numba.njit(cache=True, nogil=True)
def _lowest(linear: Floats, matrix: Floats, count: int) -> Ints:
    """Codes of the ``count`` lowest states, lowest first."""
    room = 2 * count + 1024
    energies, codes = np.empty(room), np.empty(room, np.int64)
    field, x = np.zeros(len(linear)), np.zeros(len(linear))
    held, threshold, energy = 0, np.inf, 0.0
    for index in range(1 << len(linear)):
        energy, code = _step(linear, matrix, field, x, energy, index)
        if energy >= threshold:
            continue
        energies[held], codes[held] = energy, code
        held += 1
        if held == room:
            order = np.argsort(energies, kind="mergesort")[:count]
            energies[:count], codes[:count] = energies[order], codes[order]
            held, threshold = count, energies[count - 1]
    order = np.argsort(energies[:held], kind="mergesort")[:count]
    return codes[order]


@numba.njit(cache=True, nogil=True)
def _ground(linear: Floats, matrix: Floats, tie: float, most: int) -> tuple[Ints, int]:
    """Codes of the first ``most`` states within ``tie`` of the lowest, and how many there are."""
    codes = np.empty(most, np.int64)
    field, x = np.zeros(len(linear)), np.zeros(len(linear))
    count, energy, lowest = 0, 0.0, np.inf
    for index in range(1 << len(linear)):
        energy, code = _step(linear, matrix, field, x, energy, index)
        if energy > lowest + tie:
            continue
        if energy < lowest - tie:
            count = 0
        lowest = min(lowest, energy)
        if count < most:
            codes[count] = code
        count += 1
    return codes[: min(count, most)], count
