"""Instances that solvers and samplers are held against, in families: seeded ones, and the problems of real networks.

A new family is a frozen dataclass with ``name``, ``title`` and ``make(seed)``, and a line in `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Mapping

from coldpress.instances._family import Family, Instance
from coldpress.instances.cardinality import Cardinality, CardinalityProblem
from coldpress.instances.choice import CancellingChoice, Chain, DenseChoice, IndefiniteChoice, Joint, Widths
from coldpress.instances.dense_qubo import DenseQubo
from coldpress.instances.stored import Stored
from coldpress.names import called

__all__ = [
    "FAMILIES",
    "CancellingChoice",
    "Cardinality",
    "CardinalityProblem",
    "Chain",
    "DenseChoice",
    "DenseQubo",
    "Family",
    "IndefiniteChoice",
    "Instance",
    "Joint",
    "Stored",
    "Widths",
    "family",
]

_KNOWN: tuple[Family, ...] = (
    DenseQubo(18),
    DenseQubo(64),
    DenseQubo(500),
    DenseQubo(2000),
    DenseQubo(5000),
    Widths(),
    Chain(),
    Joint(),
    DenseChoice(),
    CancellingChoice(),
    IndefiniteChoice(),
    Cardinality(512, 16),
    Cardinality(4096, 64),
    Stored("resnet20", "resnet20.npz", "ResNet-20, CIFAR-10 (JPEG): widths, ranks, bits and depth"),
    Stored("resnet56", "resnet56.npz", "ResNet-56, CIFAR-10 (JPEG): widths and depth"),
    Stored("mobilenetv2", "mobilenetv2.npz", "MobileNetV2, CIFAR-10 (JPEG), hardly trained (33 %): widths and depth"),
    Stored("minilm", "minilm.npz", "MiniLM-L6, SST-2: heads, neurons and depth"),
)
FAMILIES: Mapping[str, Family] = {known.name: known for known in _KNOWN}


def family(name: str) -> Family:
    """The family of this name.

    Raises:
        PlanError: there is none; near names are given.
    """
    return called(name, FAMILIES, "family")
