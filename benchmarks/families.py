"""Seeded problems shaped like those that networks give, for measuring solvers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from coldpress.problem import Cost, Energy, Factor, Problem

Floats = NDArray[np.float64]


def widths(seed: int, blocks: int = 27, options: int = 8) -> Problem:
    """The inner widths of a CIFAR ResNet-56 under half the MACs: costs are separable, harms overlap."""
    rng = np.random.default_rng(seed)
    G = _features(rng, [options] * blocks, overlap=0.3)
    left = 1.0 - np.arange(options) / options
    factors = [Factor((u,), (1.0 + 0.1 * rng.uniform()) * left) for u in range(blocks)]
    return _problem([options] * blocks, G @ G.T, {"macs": factors}, {"macs": "47%"})


def chain(seed: int, layers: int = 27, options: int = 8) -> Problem:
    """A plain chain of layers: each costs its input width times its output width."""
    rng = np.random.default_rng(seed)
    G = _features(rng, [options] * layers, overlap=0.3)
    left = 1.0 - np.arange(options) / options
    factors = [Factor((u, u + 1), np.outer(left, left) * rng.uniform(0.5, 2.0)) for u in range(layers - 1)]
    return _problem([options] * layers, G @ G.T, {"macs": factors}, {"macs": "47%"})


def joint(seed: int, blocks: int = 9, options: int = 8) -> Problem:
    """Three stages of residual blocks: stage width x (inner width, rank, bits, drop), bytes and latency limited."""
    rng = np.random.default_rng(seed)
    sizes, latency, size = [4, 4, 4], [], []
    stage = 1.0 - np.arange(4) / 8
    left = 1.0 - np.arange(options) / options
    for block in range(3 * blocks):
        first = len(sizes)
        sizes += [options, 4, 2, 2]
        macs = np.einsum("a,b,c,e->abce", stage, left, [1.0, 0.8, 0.6, 0.4], [1.0, 0.0])[:, :, :, None, :]
        scope = (block // blocks, first, first + 1, first + 2, first + 3)
        speed = np.array([1.0, rng.uniform(0.4, 1.1)])[None, None, None, :, None]
        latency.append(Factor(scope, macs * speed + 0.05 * (macs > 0)))
        size.append(Factor(scope, macs * np.array([1.0, 0.25])[None, None, None, :, None]))
    G = _features(rng, sizes, overlap=0.2)
    return _problem(sizes, G @ G.T, {"latency": latency, "size": size}, {"latency": "45%", "size": "20%"})


def dense(seed: int, units: int = 60, options: int = 8) -> Problem:
    """60 units x 8 options, independent random features, one linear budget."""
    rng = np.random.default_rng(seed)
    n = units * options
    severity = np.tile(np.arange(options) / (options - 1), units)
    G = (severity**0.75 * np.exp(0.5 * rng.normal(size=n)))[:, None] * rng.normal(size=(n, n)) / np.sqrt(n)
    return _problem([options] * units, G @ G.T, {"size": _linear(rng, units, options)}, {"size": "40%"})


def cancelling(seed: int, units: int = 60, options: int = 8, rank: int = 12, own: float = 0.05) -> Problem:
    """Large harms along few shared directions, which cancel in good plans, and a small harm of each option's own."""
    rng = np.random.default_rng(seed)
    n = units * options
    severity = np.tile(np.arange(options) / (options - 1), units)
    G = severity[:, None] * rng.normal(size=(n, rank)) / np.sqrt(rank)
    K = G @ G.T + own * np.diag(severity * rng.exponential(size=n))
    return _problem([options] * units, K, {"size": _linear(rng, units, options)}, {"size": "40%"})


def indefinite(seed: int, units: int = 40, options: int = 5) -> Problem:
    """Measured pairs with noise: nothing makes this energy convex as it stands."""
    rng = np.random.default_rng(seed)
    G = _features(rng, [options] * units, overlap=0.3)
    noise = rng.normal(size=(len(G), len(G))) * 0.05
    K = G @ G.T + (noise + noise.T) / 2
    return _problem([options] * units, K, {"size": _linear(rng, units, options)}, {"size": "40%"})


FAMILIES: dict[str, Callable[[int], Problem]] = {
    "widths": widths,
    "chain": chain,
    "joint": joint,
    "dense": dense,
    "cancelling": cancelling,
    "indefinite": indefinite,
}


def _features(rng: np.random.Generator, sizes: list[int], overlap: float) -> Floats:
    """Rows ``(options, features)``: harm grows with what is removed, along two own directions and one shared."""
    features = 40 * len(sizes)
    shared, rows = rng.normal(size=features), []
    for size in sizes:
        own, sensitivity = rng.normal(size=(2, features)), np.exp(0.8 * rng.normal())
        for removed in np.arange(size) / (size - 1):
            direction = np.sqrt(1 - overlap) * (own[0] + removed * own[1]) + np.sqrt(overlap) * shared
            rows.append(sensitivity * removed**1.5 * direction)
    return np.array(rows) / np.sqrt(features)


def _linear(rng: np.random.Generator, units: int, options: int) -> list[Factor]:
    left = 1.0 - np.arange(options) / options
    return [Factor((u,), left * rng.uniform(0.5, 2.0)) for u in range(units)]


def _problem(sizes: list[int], K: Floats, factors: dict[str, list[Factor]], budget: dict[str, float | str]) -> Problem:
    costs = {name: Cost(name, tuple(parts)) for name, parts in factors.items()}
    return Problem.from_arrays(sizes, Energy(K, np.zeros(len(K))), costs, budget)
