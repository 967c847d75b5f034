"""A chain of layers as a network has it: widths whose products cost, harms that overlap."""

import numpy as np

from coldpress.problem import Cost, Energy, Factor, Problem


def chain(layers: int, options: int = 6, budget: str = "47%", overlap: float = 0.3, seed: int = 0) -> Problem:
    """Minimise the harm of ``layers`` widths under a limit on MACs, each layer costing input times output width."""
    rng = np.random.default_rng(seed)
    features = 40 * layers
    shared = rng.normal(size=features)
    rows = []
    for _ in range(layers):
        own, sensitivity = rng.normal(size=(2, features)), np.exp(0.8 * rng.normal())
        for option in range(options):
            removed = option / (options - 1)
            direction = np.sqrt(1 - overlap) * (own[0] + removed * own[1]) + np.sqrt(overlap) * shared
            rows.append(sensitivity * removed**1.5 * direction)
    G = np.array(rows) / np.sqrt(features)
    width = 1.0 - np.arange(options) / options
    factors = [Factor((u, u + 1), np.outer(width, width) * float(rng.uniform(0.5, 2.0))) for u in range(layers - 1)]
    factors += [Factor((0,), 0.3 * width), Factor((layers - 1,), 0.1 * width)]
    energy = Energy(G @ G.T, np.zeros(layers * options))
    return Problem.from_arrays([options] * layers, energy, {"macs": Cost("macs", tuple(factors))}, {"macs": budget})


def chain_with_bits(layers: int, budget: str, seed: int = 0, features: int = 400) -> Problem:
    """As `chain`, and every layer may run in few bits, which saves as a narrower one does and harms a thousandth."""
    rng = np.random.default_rng(seed)
    removed = np.arange(6) / 6.0
    rows: list[np.ndarray] = []
    for _ in range(layers):
        rows += list(removed[:, None] * rng.normal(size=(6, features)).cumsum(axis=0))
    for _ in range(layers):
        rows += [np.zeros(features), 0.003 * np.exp(rng.normal()) * rng.normal(size=features)]
    products = np.outer(1.0 - removed, 1.0 - removed)
    factors = [
        Factor(
            (u, u + 1, layers + u), rng.uniform(0.5, 2.0) * np.stack([products, rng.uniform(0.4, 0.9) * products], -1)
        )
        for u in range(layers - 1)
    ]
    G = np.array(rows) / np.sqrt(features)
    energy = Energy(G @ G.T, np.zeros(len(G)))
    sizes = [6] * layers + [2] * layers
    return Problem.from_arrays(sizes, energy, {"macs": Cost("macs", tuple(factors))}, {"macs": budget})
