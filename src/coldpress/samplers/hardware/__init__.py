"""Quantum annealers, hybrid services and the vendor's mocks as dimod samplers (extra `dwave`), and what they take.

Only `EmbeddedSampler` around a real QPU, and what a hybrid service does on one, is quantum; `samplers.kinds.describe`
says which is which from the object that is called, not from the name it was asked for by.
"""

from coldpress.samplers.hardware.embedded import EmbeddedSampler
from coldpress.samplers.hardware.embedding import Embedding, embed
from coldpress.samplers.hardware.estimate import Estimate, estimate_embedding
from coldpress.samplers.hardware.hybrid import HybridCQMSampler, HybridSampler
from coldpress.samplers.hardware.reads import KeptReads, keep, open_reads

__all__ = [
    "EmbeddedSampler",
    "Embedding",
    "Estimate",
    "HybridCQMSampler",
    "HybridSampler",
    "KeptReads",
    "embed",
    "estimate_embedding",
    "keep",
    "open_reads",
]
