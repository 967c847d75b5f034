"""The published energy of filters that go and bits that are lost, from the weights alone.

H = L_p(P) + beta L_q(Q) - gamma R(P, Q), with L_p = sum_n (sum_i ||w_ni||_1 / N_ni p_ni)^2 for layers n and filters i
of N_ni weights, and R the reduction rate (`coldpress.cost.reduction`). Source: arXiv:2505.16332. Its L_q is not known
to us; ours measures what rounding takes from a layer as L_p measures what pruning takes:

L_q = sum_n (sum_i ||w_ni - Q_b(w_ni)||_1 / N_ni)^2 at b = b_n bits, less the same at the most bits.

A filter that goes loses all of its weights, one that is rounded what rounding changes; both are mean absolute values
of weights, summed over a layer's filters and squared, so that beta = 1 weighs them alike. Over q it is fitted by a
quadratic polynomial (`bit_codes`). Filters that only go together share their p.
"""

from __future__ import annotations

import dimod
import numpy as np
from numpy.typing import NDArray
from torch import nn

from coldpress.binary import check_size, from_arrays
from coldpress.cost.reduction import reduction_rate
from coldpress.energy.bit_codes import fitted_harm
from coldpress.filters import FilterSpace
from coldpress.surgery.grid import to_grid

Floats = NDArray[np.float64]


def weight_norm(
    model: nn.Module, space: FilterSpace, beta: float = 1.0, gamma: float = 0.0
) -> dimod.BinaryQuadraticModel:
    """H over the variables of ``space``; with ``gamma`` 0 its loss alone, L_p + beta L_q.

    Args:
        model: the network.
        space: its filters and layers.
        beta: weight of the bits' part.
        gamma: weight of the reduction rate.

    Raises:
        SamplerError: the model would have too many couplings.
        SurgeryError: a weight is NaN or infinite.
    """
    check_size("the weight norms of this network", sum(len(np.unique(n.owner)) ** 2 // 2 for n in space.layers))
    linear = np.zeros(len(space.variables))
    heads, tails, weights = [], [], []
    for n, layer in enumerate(space.layers):
        mine, norms = filter_norms(model, space, n)
        linear[mine] += norms**2
        i, j = np.triu_indices(len(mine), 1)
        heads.append(mine[i])
        tails.append(mine[j])
        weights.append(2.0 * norms[i] * norms[j])
        harm = beta * fitted_harm(space, rounding_loss(model, space, layer.name))
        linear[space.bit(n) + np.arange(len(harm))] += np.diag(harm)
        i, j = np.triu_indices(len(harm), 1)
        heads.append(space.bit(n) + i)
        tails.append(space.bit(n) + j)
        weights.append(harm[i, j])
    loss = from_arrays(space.variables, linear, np.concatenate(heads), np.concatenate(tails), np.concatenate(weights))
    if gamma:
        reduction = reduction_rate(space)
        reduction.scale(gamma)
        loss -= reduction
    return loss


def filter_norms(model: nn.Module, space: FilterSpace, layer: int) -> tuple[NDArray[np.int64], Floats]:
    """A layer's variables p, ``(m,)`` ascending, and the mean absolute weight of each one's filters, summed."""
    given = space.layers[layer]
    weight = model.get_submodule(given.name).get_parameter("weight").detach().flatten(1).double()
    norms = weight.abs().mean(dim=1).numpy()
    mine, place = np.unique(given.owner, return_inverse=True)
    sums = np.bincount(place, norms, len(mine))
    return mine[mine >= 0], np.asarray(sums[mine >= 0], dtype=np.float64)


def rounding_loss(model: nn.Module, space: FilterSpace, layer: str) -> Floats:
    """(sum_i ||w_i - Q_b(w_i)||_1 / N_i)^2 of a layer by bits lost, ``(most_bits - least_bits + 1,)``."""
    weight = model.get_submodule(layer).get_parameter("weight").detach().float()
    found = []
    for bits in range(space.most_bits, space.least_bits - 1, -1):
        error = (weight - to_grid(weight, bits).weight).flatten(1).double()
        found.append(float(error.abs().mean(dim=1).sum()) ** 2)
    return np.array(found)
