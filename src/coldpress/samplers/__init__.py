"""Samplers of binary quadratic models, each a `dimod.Sampler`; they know nothing of networks.

None of them is quantum hardware: QAOA is simulated, bifurcation is quantum-inspired, the others are classical, as
``properties["method"]`` and every SampleSet's ``info["method"]`` say.
"""

from coldpress.samplers.bifurcation import SimulatedBifurcationSampler
from coldpress.samplers.block_decomposer import BlockDecomposer
from coldpress.samplers.exhaustive import ExhaustiveSampler
from coldpress.samplers.low_rank import LowRankAnnealingSampler
from coldpress.samplers.one_flip_tabu import OneFlipTabuSampler
from coldpress.samplers.qaoa import QAOASampler

__all__ = [
    "BlockDecomposer",
    "ExhaustiveSampler",
    "LowRankAnnealingSampler",
    "OneFlipTabuSampler",
    "QAOASampler",
    "SimulatedBifurcationSampler",
]
