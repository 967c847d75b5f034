"""Small models with known energies."""

import dimod
import numpy as np

from coldpress.samplers import (
    BlockDecomposer,
    ExhaustiveSampler,
    LowRankAnnealingSampler,
    OneFlipTabuSampler,
    QAOASampler,
    SimulatedBifurcationSampler,
)


def tiny_blocks():
    return BlockDecomposer(ExhaustiveSampler(), 2)


FACTORIES = [
    tiny_blocks,
    ExhaustiveSampler,
    LowRankAnnealingSampler,
    OneFlipTabuSampler,
    QAOASampler,
    SimulatedBifurcationSampler,
]


def random_model(n, seed, vartype="BINARY", density=1.0, scale=1.0):
    """Linear and quadratic biases in [-scale, scale], labels of three kinds, an offset."""
    rng = np.random.default_rng(seed)
    labels = [i if i % 3 == 0 else f"v{i}" if i % 3 == 1 else ("w", i) for i in range(n)]
    model = dimod.BinaryQuadraticModel(vartype)
    for label in labels:
        model.add_linear(label, scale * rng.uniform(-1, 1))
    for i in range(n):
        for j in range(i):
            if rng.random() < density:
                model.add_quadratic(labels[i], labels[j], scale * rng.uniform(-1, 1))
    model.offset = 1.5
    return model


def least_energy(model):
    return float(dimod.ExactSolver().sample(model).record.energy.min())
