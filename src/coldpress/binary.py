"""Binary quadratic models from arrays, and what a sampler gave for one, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dimod
import numpy as np
from numpy.typing import NDArray

from coldpress.errors import SamplerError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_COUPLINGS = 20_000_000
"""A model of more takes over a gigabyte, and minutes to build."""


def check_size(what: str, couplings: int) -> None:
    """Raise SamplerError for a model of more couplings than are built."""
    if couplings > MOST_COUPLINGS:
        raise SamplerError(
            f"{what} would have {couplings:,} couplings, and at most {MOST_COUPLINGS:,} are built: take a smaller "
            "network, leave layers out (ignored_layers), or an energy that couples fewer variables"
        )


def from_arrays(
    variables: Sequence[str], linear: Floats, heads: Ints, tails: Ints, weights: Floats, offset: float = 0.0
) -> dimod.BinaryQuadraticModel:
    """The model ``offset + linear @ x + sum(weights * x[heads] * x[tails])`` over 0/1 variables.

    Args:
        variables: their names, n of them.
        linear: ``(n,)``.
        heads, tails: ``(m,)`` positions; a pair may come more than once, and adds up.
        weights: ``(m,)``; zeros are left out.
        offset: a constant.

    Raises:
        SamplerError: a bias is NaN or infinite, or there are too many couplings.
    """
    if not (np.isfinite(linear).all() and np.isfinite(weights).all() and np.isfinite(offset)):
        raise SamplerError("the model would have biases that are NaN or infinite; look at the network's weights")
    there = weights != 0
    check_size("the model", int(there.sum()))
    model = dimod.BinaryQuadraticModel("BINARY")
    names = list(variables)
    model.add_linear_from(zip(names, np.asarray(linear, np.float64).tolist()))
    model.add_quadratic_from(
        (names[i], names[j], weight)
        for i, j, weight in zip(heads[there].tolist(), tails[there].tolist(), weights[there].tolist())
    )
    model.offset += offset
    return model


def from_matrix(variables: Sequence[str], matrix: Floats, offset: float = 0.0) -> dimod.BinaryQuadraticModel:
    """The model ``offset + x @ matrix @ x`` over 0/1 variables; ``matrix`` is ``(n, n)``, its diagonal is linear."""
    upper = np.triu(matrix, 1) + np.tril(matrix, -1).T
    heads, tails = np.nonzero(upper)
    return from_arrays(variables, np.diag(matrix).copy(), heads, tails, upper[heads, tails], offset)


def checked(found: Any, model: dimod.BinaryQuadraticModel) -> dimod.SampleSet:
    """What a sampler gave for ``model``, lowest energy first, if it is what was asked for.

    Raises:
        SamplerError: it is no SampleSet, holds no sample, other variables or values, or energies that are not the
            model's.
    """
    if not isinstance(found, dimod.SampleSet):
        raise SamplerError(f"the sampler returned a {type(found).__name__}; it must return a dimod.SampleSet")
    if found.vartype is not model.vartype:
        found = found.change_vartype(model.vartype, inplace=False)
    if len(found) == 0:
        raise SamplerError("the sampler returned no sample; give it more reads or more time")
    if set(found.variables) != set(model.variables):
        wrong = sorted(map(str, set(found.variables) ^ set(model.variables)))
        raise SamplerError(
            f"the sampler returned other variables than the model's ({len(wrong)} differ, {wrong[0]!r} for one): "
            "its answer is refused"
        )
    values = found.record.sample
    if not np.isin(values, list(model.vartype.value)).all():
        raise SamplerError(f"the sampler returned values other than {sorted(model.vartype.value)}")
    energies = np.asarray(model.energies((values, found.variables)), np.float64)
    off = np.abs(energies - found.record.energy)
    if not (off <= 1e-6 * (1.0 + np.abs(energies))).all():
        worst = int(off.argmax())
        raise SamplerError(
            f"the sampler says the energy is {found.record.energy[worst]:g} where the model's is {energies[worst]:g}: "
            "its answer is refused"
        )
    order = np.argsort(energies, kind="stable")
    samples = values[order], list(found.variables)
    return dimod.SampleSet.from_samples(samples, model.vartype, energy=energies[order], info=found.info)
