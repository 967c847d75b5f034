"""A binary quadratic model as checked arrays, and bits as a SampleSet."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import dimod
import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from coldpress.errors import SamplerError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bits = NDArray[np.int8]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Model:
    """Energy ``offset + sum_i linear_i v_i + sum_e weights_e v_heads(e) v_tails(e)``, each pair once.

    Attributes:
        variables: n labels.
        spin: whether the values v are -1 and 1; else 0 and 1.
        linear: (n,).
        heads, tails: (m,) positions of the variables of each coupling.
        weights: (m,).
        offset: a constant.
    """

    variables: list[Hashable]
    spin: bool
    linear: Floats
    heads: Ints
    tails: Ints
    weights: Floats
    offset: float
    _made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.linear)

    @property
    def density(self) -> float:
        """Couplings that are there, of all n (n - 1) / 2."""
        n = len(self)
        return len(self.weights) / max(n * (n - 1) / 2, 1)

    def kept(self, make: Callable[[Model], Made]) -> Made:
        """What ``make`` makes of this model; made once, and kept with it."""
        if make not in self._made:
            self._made[make] = make(self)
        made: Made = self._made[make]
        return made

    def _sums(self) -> Floats:
        """The couplings of each variable added up, (n,)."""
        n = len(self)
        sums = np.bincount(self.heads, self.weights, n) + np.bincount(self.tails, self.weights, n)
        return np.asarray(sums, dtype=np.float64)

    def as_binary(self) -> Model:
        """The same energies over x = (s + 1) / 2."""
        if not self.spin:
            return self
        offset = self.offset - float(self.linear.sum()) + float(self.weights.sum())
        linear = 2.0 * (self.linear - self._sums())
        return replace(self, spin=False, linear=linear, weights=4.0 * self.weights, offset=offset)

    def as_spin(self) -> Model:
        """The same energies over s = 2 x - 1."""
        if self.spin:
            return self
        offset = self.offset + float(self.linear.sum()) / 2 + float(self.weights.sum()) / 4
        linear = self.linear / 2 + self._sums() / 4
        return replace(self, spin=True, linear=linear, weights=self.weights / 4, offset=offset)

    def matrix(self, dtype: Any = np.float64, columns: int | None = None) -> NDArray[Any]:
        """Couplings as a symmetric matrix with an empty diagonal, (n, columns); columns beyond n are 0."""
        full = np.zeros((len(self), len(self) if columns is None else columns), dtype)
        full[self.heads, self.tails] = self.weights
        full[self.tails, self.heads] = self.weights
        return full

    def sparse(self, dtype: Any = np.float64) -> scipy.sparse.csr_array:
        """Couplings as a symmetric compressed matrix, (n, n)."""
        rows, columns = np.concatenate([self.heads, self.tails]), np.concatenate([self.tails, self.heads])
        values = np.concatenate([self.weights, self.weights]).astype(dtype)
        return scipy.sparse.csr_array((values, (rows, columns)), shape=(len(self), len(self)))


class ReadOnce:
    """A model that is read once, for many calls of the samplers of this package, and not changed any more.

    Raises:
        SamplerError: as `read`.
    """

    def __init__(self, bqm: Any) -> None:
        self._bqm, self.arrays = bqm, read(bqm)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bqm, name)

    def __len__(self) -> int:
        return len(self._bqm)


def read(bqm: Any) -> Model:
    """The arrays of ``bqm``, those that are kept where it is a `ReadOnce`.

    Raises:
        SamplerError: it is no binary quadratic model, or a bias is not a finite real number; the message says which.
    """
    if isinstance(bqm, ReadOnce):
        return bqm.arrays
    if not hasattr(bqm, "to_numpy_vectors") or not hasattr(bqm, "vartype"):
        raise SamplerError(f"cannot sample from a {type(bqm).__name__}; give a dimod.BinaryQuadraticModel")
    vectors = bqm.to_numpy_vectors(sort_labels=False)
    pairs = vectors.quadratic
    numeric = all(np.asarray(a).dtype.kind in "fiub" for a in (vectors.linear_biases, pairs.biases, vectors.offset))
    if not numeric or not all(np.isfinite(a).all() for a in (vectors.linear_biases, pairs.biases, vectors.offset)):
        _blame(bqm)
    return Model(
        list(bqm.variables),
        bqm.vartype is dimod.SPIN,
        np.array(vectors.linear_biases, np.float64),
        np.array(pairs.row_indices, np.int64),
        np.array(pairs.col_indices, np.int64),
        np.array(pairs.biases, np.float64),
        float(vectors.offset),
    )


def _blame(bqm: Any) -> None:
    """Name the first bias that is not a finite real number; exact ones (fractions, say) pass."""
    named = [(f"the linear bias of {v!r}", bias) for v, bias in bqm.linear.items()]
    named += [(f"the quadratic bias of {u!r} and {v!r}", bias) for (u, v), bias in bqm.quadratic.items()]
    for name, bias in [*named, ("the offset", bqm.offset)]:
        if not isinstance(bias, numbers.Real) or not np.isfinite(float(bias)):
            raise SamplerError(f"{name} is {bias!r}; samplers need finite real numbers: correct it, or leave it out")


def limit(sampler: str, model: Model, most: int, why: str) -> None:
    """Refuse models of more than ``most`` variables.

    Raises:
        SamplerError: there are more; the message says what to use instead.
    """
    if len(model) > most:
        raise SamplerError(
            f"{sampler} takes at most {most} variables ({why}), this model has {len(model)}; use OneFlipTabuSampler, "
            f"or BlockDecomposer({sampler}(), {most}), which solves it in blocks"
        )


def sample_set(bqm: Any, model: Model, bits: NDArray[Any], **info: Any) -> dimod.SampleSet:
    """Bits (reads, n), 0 or 1, in the values and with the energies of ``bqm``."""
    values = np.asarray(bits, dtype=np.int8)
    if bqm.vartype is dimod.SPIN:
        values = 2 * values - 1
    energies = np.asarray(bqm.energies((values, model.variables)), dtype=np.float64)
    return dimod.SampleSet.from_samples((values, model.variables), bqm.vartype, energy=energies, info=info)


def empty_set(bqm: Any, **info: Any) -> dimod.SampleSet:
    """What a model without variables gives: no sample, as dimod's exact solver."""
    return dimod.SampleSet.from_samples([], bqm.vartype, energy=[], info=info)


def given_states(sampler: Any, bqm: Any, initial_states: Any, num_reads: int | None, seed: int) -> Bits:
    """Bits (reads, n) to start from: those of ``initial_states``, then random ones.

    Args:
        sampler: a `dimod.Initialized`.
        bqm: the model whose variables the states are of.
        initial_states: anything that `dimod.as_samples` reads, or None.
        num_reads: by default as many as there are initial states, at least 1.
        seed: of the random ones.

    Raises:
        SamplerError: the states are not of these variables, or hold other values.
    """
    try:
        parsed = sampler.parse_initial_states(bqm, initial_states, "random", num_reads, seed)
    except (ValueError, TypeError) as error:
        raise SamplerError(f"initial_states do not fit this model: {error}") from error
    states = parsed.initial_states
    order = [states.variables.index(v) for v in bqm.variables]
    values = states.record.sample[:, order]
    if not np.isin(values, list(bqm.vartype.value)).all():
        raise SamplerError(f"initial_states hold values other than {sorted(bqm.vartype.value)}")
    return np.asarray(values > 0, dtype=np.int8)
