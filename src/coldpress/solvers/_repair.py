"""Samples brought to a reduction rate by single flips, with every flip's loss and reduction kept up to date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dimod
import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from coldpress.errors import BudgetError, SamplerError

Floats = NDArray[np.float64]
Bits = NDArray[np.int8]
Sample = dict[str, int]
TINY = 1e-12


class _State:
    """A model's value at x and each variable's field, value(x_v = 1) - value(x_v = 0)."""

    def __init__(self, linear: Floats, couplings: scipy.sparse.csr_array, offset: float, x: Bits) -> None:
        self.couplings = couplings
        pull = couplings @ x.astype(np.float64)
        self.field: Floats = linear + pull
        self.value = offset + float(x @ linear) + 0.5 * float(x @ pull)

    def flip(self, v: int, up: bool) -> None:
        """Take the flip of variable ``v`` into account."""
        sign = 1.0 if up else -1.0
        self.value += sign * float(self.field[v])
        row = slice(self.couplings.indptr[v], self.couplings.indptr[v + 1])
        self.field[self.couplings.indices[row]] += sign * self.couplings.data[row]


class Limited:
    """A loss, and a reduction that must reach a target, over the same variables.

    Args: as in `coldpress.solvers.reduction.repair`.

    Attributes:
        variables: in the order of the reduction.
        enough: the target, less rounding.
        scale: the loss of a sample made greedily by the target: a gamma to begin with.
        penalty: price of missing the target by one: a tenth missed costs that sample's loss.

    Raises:
        BudgetError: the target cannot be reached.
        SamplerError: the models have other variables, or the reduction can fall when a variable becomes 1.
    """

    def __init__(
        self,
        loss: dimod.BinaryQuadraticModel,
        reduction: dimod.BinaryQuadraticModel,
        target: float,
        keep_one: Sequence[Sequence[str]],
    ) -> None:
        self.variables: list[str] = list(reduction.variables)
        for model, name in ((loss, "loss"), (reduction, "reduction")):
            if model.vartype is not dimod.BINARY:
                raise SamplerError(f"the {name} is a model of spins; give models of 0/1 variables")
        if set(loss.variables) != set(self.variables):
            raise SamplerError("loss and reduction must be models of the same variables")
        self.target = float(target)
        self.enough = self.target - TINY * max(abs(self.target), 1.0)
        self._loss, self._reduction = _arrays(loss, self.variables), _arrays(reduction, self.variables)
        linear, couplings, _ = self._reduction
        falls = linear + np.asarray(couplings.minimum(0.0).sum(axis=1)).ravel()
        if len(falls) and falls.min() < -1e-9 * max(float(np.abs(linear).max()), TINY):
            raise SamplerError(f"the reduction can fall when {self.variables[int(falls.argmin())]!r} becomes 1")
        place = {v: i for i, v in enumerate(self.variables)}
        self._set = np.full(len(self.variables), -1)
        for s, names in enumerate(keep_one):
            self._set[[place[name] for name in names]] = s
        self._sets = len(keep_one)
        self._most = self._strongest()
        reach = self._state(self._reduction, self._most).value
        if reach < self.enough:
            raise BudgetError(
                f"a reduction of {self.target:.6g} cannot be reached: with all filters gone but one of each group, and "
                f"the fewest bits, it is {reach:.6g}; ask for less, or allow fewer bits (least_bits)"
            )
        begun = self.values(self.repaired(dict.fromkeys(self.variables, 0)))[0]
        self.scale = abs(begun) / max(abs(self.target), TINY) or 1.0
        self.penalty = 100.0 * abs(begun) or 1.0

    def values(self, sample: Mapping[str, Any]) -> tuple[float, float]:
        """Loss and reduction of a sample."""
        x = self._vector(sample)
        return self._state(self._loss, x).value, self._state(self._reduction, x).value

    def feasible(self, sample: Mapping[str, Any]) -> bool:
        """Whether a sample reaches the target and leaves something of each set."""
        x = self._vector(sample)
        return self.values(sample)[1] >= self.enough and bool((self._zeros(x) > 0).all())

    def repaired(self, sample: Mapping[str, Any]) -> Sample:
        """See `coldpress.solvers.reduction.repair`."""
        x = self._vector(sample)
        for s in np.flatnonzero(self._zeros(x) == 0):
            own = np.flatnonzero(self._set == s)
            x[own[self._state(self._loss, x).field[own].argmax()]] = 0
        loss, reduction = self._state(self._loss, x), self._state(self._reduction, x)
        zeros = self._zeros(x)
        while reduction.value < self.enough:
            free = (x == 0) & ((self._set < 0) | (zeros[self._set] > 1)) & (reduction.field > TINY)
            if not free.any():  # another member of a set must be the one that stays
                x = self._most.copy()
                loss, reduction = self._state(self._loss, x), self._state(self._reduction, x)
                zeros = self._zeros(x)
                break
            price = np.where(free, loss.field / np.where(free, reduction.field, 1.0), np.inf)
            self._flip(x, zeros, int(price.argmin()), loss, reduction)
        while True:
            spare = reduction.value - reduction.field >= self.enough
            gain = np.where((x == 1) & spare, loss.field, 0.0)
            best = int(gain.argmax()) if len(gain) else 0
            if not len(gain) or gain[best] <= TINY * max(abs(loss.value), TINY):
                break
            self._flip(x, zeros, best, loss, reduction)
        return {v: int(value) for v, value in zip(self.variables, x)}

    def _flip(self, x: Bits, zeros: NDArray[np.int64], v: int, loss: _State, reduction: _State) -> None:
        up = x[v] == 0
        x[v] = 1 - x[v]
        for state in (loss, reduction):
            state.flip(v, up)
        if self._set[v] >= 0:
            zeros[self._set[v]] += -1 if up else 1

    def _zeros(self, x: Bits) -> NDArray[np.int64]:
        """Zeros in each set, ``(sets + 1,)``: the last, for variables of no set, is 1."""
        inside = self._set >= 0
        counts = np.bincount(self._set[inside], (x == 0)[inside], self._sets).astype(np.int64)
        return np.append(counts, 1)

    def _strongest(self) -> Bits:
        """All ones, but one variable of each set 0: where that costs least reduction."""
        x = np.ones(len(self.variables), dtype=np.int8)
        field = self._state(self._reduction, x).field
        for s in range(self._sets):
            own = np.flatnonzero(self._set == s)
            x[own[field[own].argmin()]] = 0
        return x

    def _vector(self, sample: Mapping[str, Any]) -> Bits:
        if set(sample) != set(self.variables) or not all(sample[v] in (0, 1) for v in self.variables):
            raise SamplerError("the sample must hold 0 or 1 for each of the model's variables, and no others")
        return np.array([sample[v] for v in self.variables], dtype=np.int8)

    @staticmethod
    def _state(model: tuple[Floats, scipy.sparse.csr_array, float], x: Bits) -> _State:
        return _State(*model, x)


def _arrays(
    model: dimod.BinaryQuadraticModel, variables: Sequence[str]
) -> tuple[Floats, scipy.sparse.csr_array, float]:
    """Linear biases, symmetric couplings and offset, in the order of ``variables``."""
    vectors = model.to_numpy_vectors(variable_order=variables)
    pairs, n = vectors.quadratic, len(variables)
    rows = np.concatenate([pairs.row_indices, pairs.col_indices])
    columns = np.concatenate([pairs.col_indices, pairs.row_indices])
    couplings = scipy.sparse.csr_array((np.concatenate([pairs.biases, pairs.biases]), (rows, columns)), shape=(n, n))
    return np.asarray(vectors.linear_biases, np.float64), couplings, float(vectors.offset)
