"""How well energies over filters and bits rank random samples, beside the loss that is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import dimod
import numpy as np
from torch import Tensor, nn

from coldpress.energy.correlation import rank_correlation
from coldpress.energy.suffix import Suffix
from coldpress.filters import FilterSpace
from coldpress.network import divergence
from coldpress.surgery.decode import replacements

Sample = dict[str, int]


@dataclass(frozen=True)
class Agreement:
    """Energies and the measured loss of the same samples.

    Attributes:
        samples: the samples.
        measured: KL (nats) of the rounded and masked network from the original, one a sample.
        predicted: by energy, its values.
        spearman: by energy, its rank correlation with what was measured.
    """

    samples: tuple[Sample, ...]
    measured: tuple[float, ...]
    predicted: dict[str, tuple[float, ...]]
    spearman: dict[str, float]

    def table(self) -> str:
        """The rank correlations as Markdown."""
        lines = ["| energy | rank correlation with measured loss |", "|---|---|"]
        return "\n".join([*lines, *(f"| {name} | {value:.3f} |" for name, value in self.spearman.items())])


def random_samples(
    space: FilterSpace, count: int, seed: int = 0, least: float = 0.05, most: float = 0.6
) -> list[Sample]:
    """Random samples of rising strength: filters go, and bits are lost, by chance.

    Args:
        space: filters and layers.
        count: how many.
        seed: of the draw.
        least, most: share of all filters, and of all bits that can go, in the weakest and the strongest sample; with
            both the same all samples are alike strong, which is the harder test: energies that only count what goes
            tell nothing then.
    """
    generator = np.random.default_rng(seed)
    span = space.most_bits - space.least_bits
    owners = np.array([g for g, _ in space.filters], dtype=np.int64)
    found = []
    for strength in np.linspace(least, most, count):
        gone = (generator.random(len(owners)) < strength).astype(np.int8)
        for g in range(len(space.groups)):
            own = np.flatnonzero(owners == g)
            if gone[own].all():
                gone[generator.choice(own)] = 0
        found.append(space.encode(gone, generator.binomial(span, strength, len(space.layers))))
    return found


def compare_energies(
    model: nn.Module,
    space: FilterSpace,
    energies: Mapping[str, dimod.BinaryQuadraticModel],
    inputs: Sequence[Tensor],
    samples: Sequence[Sample],
    progress: Callable[[int, int], None] | None = None,
) -> Agreement:
    """Measure samples once, and hold every energy against them.

    Args:
        model: the original.
        space: its filters and layers.
        energies: by name, over the space's variables.
        inputs: what the loss is measured on; other inputs than the energies' make it a fair test.
        samples: of `random_samples`, say; no group may lose all of its filters.
        progress: called with (samples done, samples in all).
    """
    measured = []
    with Suffix(model, inputs) as suffix:
        for done, sample in enumerate(samples):
            measured.append(divergence(suffix.logits, suffix.run(replacements(model, space, sample))))
            if progress:
                progress(done + 1, len(samples))
    predicted = {name: tuple(float(energy.energy(s)) for s in samples) for name, energy in energies.items()}
    spearman = {name: rank_correlation(values, measured) for name, values in predicted.items()}
    return Agreement(tuple(samples), tuple(measured), predicted, spearman)
