"""Energies of filters and bits from the loss's expansion: first order (Taylor), and second order by Fisher."""

from __future__ import annotations

import dimod
import numpy as np

from coldpress.energy.features import from_features, from_harms
from coldpress.energy.first_order import Changes
from coldpress.filters import FilterSpace


def taylor(space: FilterSpace, changes: Changes) -> dimod.BinaryQuadraticModel:
    """The mean over samples of the first-order change's size, decision by decision, without couplings (nats).

    Source: Molchanov et al. 2017, arXiv:1611.06440, equation 8.
    """
    return from_harms(space, np.abs(changes.filters).mean(axis=0), np.abs(changes.layers).mean(axis=0))


def fisher(space: FilterSpace, changes: Changes) -> dimod.BinaryQuadraticModel:
    """1/(2N) ||G x||^2, with G the changes of N samples: decisions couple where they move the same samples' losses.

    Source: Theis et al. 2018, arXiv:1801.05787, with the whole matrix in place of its diagonal.

    Raises:
        SamplerError: there would be too many couplings.
    """
    root = np.sqrt(len(changes.filters))
    filters, layers = changes.filters.T / root, changes.layers.transpose(1, 2, 0) / root
    alone = 0.5 * np.square(filters).sum(axis=1), 0.5 * np.square(layers).sum(axis=2)
    return from_features(space, filters, layers, *alone)
