"""One option per unit inside a budget: seeded problems shaped like those that networks give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coldpress.problem import Cost, Energy, Factor, Problem

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Widths:
    """The inner widths of a CIFAR ResNet-56 under half the MACs: costs are separable, harms overlap."""

    units: int = 27
    options: int = 8
    name: str = "widths"
    title: str = "widths of 27 blocks, one separable budget"

    def make(self, seed: int = 0) -> Problem:
        """The problem of a seed."""
        rng = np.random.default_rng(seed)
        sizes = [self.options] * self.units
        G = _features(rng, sizes, overlap=0.3)
        left = 1.0 - np.arange(self.options) / self.options
        factors = [Factor((u,), (1.0 + 0.1 * rng.uniform()) * left) for u in range(self.units)]
        return _problem(sizes, G @ G.T, {"macs": factors}, {"macs": "47%"})


@dataclass(frozen=True)
class Chain:
    """A plain chain of layers: each costs its input width times its output width."""

    units: int = 27
    options: int = 8
    name: str = "chain"
    title: str = "a chain of 27 layers, costs of neighbours together"

    def make(self, seed: int = 0) -> Problem:
        """The problem of a seed."""
        rng = np.random.default_rng(seed)
        sizes = [self.options] * self.units
        G = _features(rng, sizes, overlap=0.3)
        left = 1.0 - np.arange(self.options) / self.options
        tables = [np.outer(left, left) * rng.uniform(0.5, 2.0) for _ in range(self.units - 1)]
        factors = [Factor((u, u + 1), table) for u, table in enumerate(tables)]
        return _problem(sizes, G @ G.T, {"macs": factors}, {"macs": "47%"})


@dataclass(frozen=True)
class Joint:
    """Three stages of residual blocks: stage width x (inner width, rank, bits, drop), bytes and latency limited."""

    blocks: int = 9
    options: int = 8
    name: str = "joint"
    title: str = "27 blocks: stage and inner widths, rank, bits and depth, two budgets"

    def make(self, seed: int = 0) -> Problem:
        """The problem of a seed."""
        rng = np.random.default_rng(seed)
        sizes, latency, size = [4, 4, 4], [], []
        stage = 1.0 - np.arange(4) / 8
        left = 1.0 - np.arange(self.options) / self.options
        for block in range(3 * self.blocks):
            first = len(sizes)
            sizes += [self.options, 4, 2, 2]
            macs = np.einsum("a,b,c,e->abce", stage, left, [1.0, 0.8, 0.6, 0.4], [1.0, 0.0])[:, :, :, None, :]
            scope = (block // self.blocks, first, first + 1, first + 2, first + 3)
            speed = np.array([1.0, rng.uniform(0.4, 1.1)])[None, None, None, :, None]
            latency.append(Factor(scope, macs * speed + 0.05 * (macs > 0)))
            size.append(Factor(scope, macs * np.array([1.0, 0.25])[None, None, None, :, None]))
        G = _features(rng, sizes, overlap=0.2)
        return _problem(sizes, G @ G.T, {"latency": latency, "size": size}, {"latency": "45%", "size": "20%"})


@dataclass(frozen=True)
class DenseChoice:
    """Units of independent random features, one linear budget; the energy is positive semi-definite."""

    units: int = 60
    options: int = 8
    name: str = "choice-dense"
    title: str = "60 units x 8 options, dense positive semi-definite energy"

    def make(self, seed: int = 0) -> Problem:
        """The problem of a seed."""
        rng = np.random.default_rng(seed)
        n = self.units * self.options
        severity = np.tile(np.arange(self.options) / (self.options - 1), self.units)
        G = (severity**0.75 * np.exp(0.5 * rng.normal(size=n)))[:, None] * rng.normal(size=(n, n)) / np.sqrt(n)
        return _problem([self.options] * self.units, G @ G.T, {"size": _linear(rng, self)}, {"size": "40%"})


@dataclass(frozen=True)
class CancellingChoice:
    """Large harms along few shared directions, which cancel in good plans, and a small harm of each option's own."""

    units: int = 60
    options: int = 8
    rank: int = 12
    own: float = 0.05
    name: str = "choice-cancelling"
    title: str = "60 units x 8 options, harms that cancel: hard"

    def make(self, seed: int = 0) -> Problem:
        """The problem of a seed."""
        rng = np.random.default_rng(seed)
        n = self.units * self.options
        severity = np.tile(np.arange(self.options) / (self.options - 1), self.units)
        G = severity[:, None] * rng.normal(size=(n, self.rank)) / np.sqrt(self.rank)
        K = G @ G.T + self.own * np.diag(severity * rng.exponential(size=n))
        return _problem([self.options] * self.units, K, {"size": _linear(rng, self)}, {"size": "40%"})


@dataclass(frozen=True)
class IndefiniteChoice:
    """Measured pairs with noise: nothing makes this energy convex as it stands."""

    units: int = 40
    options: int = 5
    name: str = "choice-indefinite"
    title: str = "40 units x 5 options, noisy pairs: an indefinite energy"

    def make(self, seed: int = 0) -> Problem:
        """The problem of a seed."""
        rng = np.random.default_rng(seed)
        sizes = [self.options] * self.units
        G = _features(rng, sizes, overlap=0.3)
        noise = rng.normal(size=(len(G), len(G))) * 0.05
        K = G @ G.T + (noise + noise.T) / 2
        return _problem(sizes, K, {"size": _linear(rng, self)}, {"size": "40%"})


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


def _linear(rng: np.random.Generator, family: DenseChoice | CancellingChoice | IndefiniteChoice) -> list[Factor]:
    left = 1.0 - np.arange(family.options) / family.options
    return [Factor((u,), left * rng.uniform(0.5, 2.0)) for u in range(family.units)]


def _problem(sizes: list[int], K: Floats, factors: dict[str, list[Factor]], budget: dict[str, float | str]) -> Problem:
    costs = {name: Cost(name, tuple(parts)) for name, parts in factors.items()}
    return Problem.from_arrays(sizes, Energy(K, np.zeros(len(K))), costs, budget)
