"""The reduction rate of filters that go and bits that are lost: the published R(P, Q), exactly quadratic."""

from __future__ import annotations

import dimod
import numpy as np

from coldpress.binary import from_arrays
from coldpress.filters import FilterSpace


def reduction_rate(space: FilterSpace) -> dimod.BinaryQuadraticModel:
    """The fraction of all weights' bits that a sample saves, in [0, 1).

    With s the weights of a filter and b the most bits, a filter that goes saves s b bits, one that stays s times the
    bits that its layer loses: R = 1 / (b S) sum_n sum_i s_n (b p_i + (1 - p_i) sum_k c_k q_nk), S all weights. Only a
    filter's own weights count: its channel's columns in the layers behind it go too, but to count them would take
    products of three variables. So a real network is smaller than R says.

    Source: arXiv:2505.16332 (H = L_p + beta L_q - gamma R).

    Args:
        space: filters and layers; `FilterSpace.reduction` counts the same for one sample.
    """
    most, total = space.most_bits, space.most_bits * space.weights
    steps = np.array(space.steps, dtype=np.float64)
    linear = np.zeros(len(space.variables))
    heads, tails, weights = [], [], []
    for n, layer in enumerate(space.layers):
        mine, counts = np.unique(layer.owner[layer.owner >= 0], return_counts=True)
        saved = layer.fan_in * counts / total
        bits = space.bit(n) + np.arange(len(steps))
        linear[mine] += most * saved
        linear[bits] += layer.weights * steps / total
        heads.append(np.repeat(mine, len(steps)))
        tails.append(np.tile(bits, len(mine)))
        weights.append(-np.outer(saved, steps).ravel())
    return from_arrays(space.variables, linear, np.concatenate(heads), np.concatenate(tails), np.concatenate(weights))
