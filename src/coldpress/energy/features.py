"""Energies of filters and bits from what each of them alone does: couplings are inner products of features."""

from __future__ import annotations

import dimod
import numpy as np
from numpy.typing import NDArray

from coldpress.binary import check_size, from_matrix
from coldpress.energy.bit_codes import fitted_changes, fitted_harm
from coldpress.filters import FilterSpace

Floats = NDArray[np.float64]


def from_harms(space: FilterSpace, filters: Floats, layers: Floats) -> dimod.BinaryQuadraticModel:
    """An energy in which every filter and every layer's bits count alone.

    Args:
        space: filters and layers.
        filters: ``(filters,)`` harm of each filter's going.
        layers: ``(layers, most_bits - least_bits + 1)`` harm by bits lost.
    """
    return from_matrix(space.variables, _alone(space, filters, layers))


def from_features(
    space: FilterSpace, filters: Floats, layers: Floats, filter_harms: Floats, layer_harms: Floats
) -> dimod.BinaryQuadraticModel:
    """An energy 1/2 ||sum of the features of all that is chosen||^2, in which the harms of each alone are given.

    Args:
        space: filters and layers.
        filters: ``(filters, d)`` features.
        layers: ``(layers, most_bits - least_bits + 1, d)`` features by bits lost; over q they are fitted linearly.
        filter_harms, layer_harms: as in `from_harms`.

    Raises:
        SamplerError: there would be too many couplings.
    """
    count = len(space.variables)
    check_size("an energy that couples all filters and bits", count * (count - 1) // 2)
    steps = len(space.steps)
    coded = [fitted_changes(space, changes) for changes in layers]
    features = np.concatenate([filters, *coded]) if coded else filters
    matrix = np.triu(features @ features.T, 1)
    for n in range(len(space.layers)):  # a layer's own harm is known for every code
        own = slice(space.bit(n), space.bit(n) + steps)
        matrix[own, own] = 0.0
    return from_matrix(space.variables, matrix + _alone(space, filter_harms, layer_harms))


def _alone(space: FilterSpace, filters: Floats, layers: Floats) -> Floats:
    matrix = np.zeros((len(space.variables), len(space.variables)))
    own = np.arange(len(space.filters))
    matrix[own, own] = filters
    for n, harms in enumerate(layers):
        bits = slice(space.bit(n), space.bit(n) + len(space.steps))
        matrix[bits, bits] = fitted_harm(space, harms)
    return matrix
