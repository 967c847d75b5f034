"""Which channels of a small layer go, by QAOA indeed: the Fisher energy of its channels, on a simulated circuit.

The circuit is simulated on a state vector, so a layer has at most 20 atoms of channels, and warm-started from the
relaxation, without which the optimum is rarely read. It stands with the energies, above surgery and space, since it
needs data, gradients and a sampler; what it returns is what `coldpress.surgery.retention` returns, to be compared at
equal sparsity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dimod
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from coldpress.binary import from_matrix
from coldpress.energy.fisher import fisher_energy, mask_gradients
from coldpress.errors import SurgeryError
from coldpress.plan import ChannelGroup
from coldpress.samplers.asking import ask
from coldpress.samplers.qaoa import MOST_VARIABLES, QAOASampler
from coldpress.selection import Bools, Floats
from coldpress.surgery.retention import Retained, channel_masks, shares_by_name, wanted_counts

PENALTY = 1.0
"""Of a channel too many or too few, in mean harms of a channel: stronger ones flatten what QAOA shall tell apart."""


@dataclass(frozen=True, eq=False)
class Subset:
    """Units that go, so many as were asked for.

    Attributes:
        gone: ``(n,)``.
        energy: of them, without penalty.
        in_count: share of the reads that had the right number by themselves; the others were repaired.
        info: what the sampler says of itself; of QAOA ``ground_probability``, ``parameters`` and ``method``.
    """

    gone: Bools
    energy: float
    in_count: float
    info: Mapping[str, Any]


def prune_by_qaoa(
    model: nn.Module,
    inputs: Sequence[Tensor],
    groups: Sequence[ChannelGroup],
    sparsity: float | Mapping[str, float],
    *,
    num_layers: int = 3,
    num_reads: int = 256,
    sampler: dimod.Sampler | None = None,
    seed: int = 0,
) -> tuple[Retained, dict[str, Subset]]:
    """Masks of whole channels of small groups, each group's by the least Fisher energy that a sampler finds.

    Args:
        model: the network; it is not changed.
        inputs: calibration inputs, each ``(samples, ...)``.
        groups: whose channels can go, in whole atoms, 20 of them at most where the sampler is QAOA.
        sparsity: share of each group's atoms that go, in [0, 1]; of all groups, or by name.
        num_layers: p of QAOA, which is warm-started (Egger et al. 2021).
        num_reads: samples of each group.
        sampler: another `dimod.Sampler` in the place of QAOA; `ExhaustiveSampler()` tells the optimum.
        seed: of the Fisher information's labels and of the sampler.

    Returns:
        Masks as `coldpress.surgery.retention.prune_channels` gives, and by group what the sampler found.

    Raises:
        SurgeryError: a sparsity out of range, an unknown name, or a group that is too large.
        TaskError: outputs or gradients are not finite.
        SamplerError: the sampler fails, or refuses an argument.
    """
    named = {group.name: group for group in groups}
    shares = shares_by_name(sparsity, named, "channel group")
    sizes = {name: named[name].channels // named[name].atom for name in shares}
    for name, size in sizes.items():
        if sampler is None and size > MOST_VARIABLES:
            raise SurgeryError(
                f"{name!r} has {size} units; QAOA is simulated for {MOST_VARIABLES} at most: leave it out, or give "
                "another sampler"
            )
    counts = wanted_counts(sizes, shares)
    chosen = [named[name] for name in shares]
    gradients = mask_gradients(model, inputs, chosen, seed=seed).numpy()
    parameters = {"num_layers": num_layers, "warm_start": "relaxation"} if sampler is None else {}
    found, kept, first = {}, {}, 0
    for group in chosen:
        own = gradients[:, first : first + group.channels].astype(np.float64)
        first += group.channels
        energy = fisher_energy(own.reshape(len(own), -1, group.atom).sum(axis=2))
        subset = least_subset(
            *energy, counts[group.name], sampler or QAOASampler(), parameters, num_reads=num_reads, seed=seed
        )
        found[group.name] = subset
        kept[group.name] = tuple(np.flatnonzero(~subset.gone.repeat(group.atom)).tolist())
    masks = channel_masks(model, chosen, kept)
    return Retained(masks, sum(sizes.values()), sum(counts.values()), kept=kept), found


def least_subset(
    linear: Floats,
    factor: Floats,
    count: int,
    sampler: dimod.Sampler,
    parameters: Mapping[str, Any] | None = None,
    *,
    num_reads: int = 256,
    seed: int = 0,
) -> Subset:
    """The ``count`` units of least energy ``linear . x + |factor^T x|^2 / 2`` among a sampler's reads.

    The number is a penalty in the sampled model; reads that miss it are repaired by the cheapest flips.

    Args:
        linear: ``(n,)``.
        factor: ``(n, rank)``.
        count: of the units that go, 0 to n.
        sampler: of binary quadratic models.
        parameters: of that sampler.
        num_reads, seed: of its call.
    """
    n = len(linear)
    matrix = np.diag(linear) + 0.5 * factor @ factor.T
    harm = float(np.trace(matrix)) / n or 1.0
    penalty = PENALTY * harm * (np.ones((n, n)) - 2.0 * count * np.eye(n))
    model = from_matrix([str(i) for i in range(n)], (matrix + penalty) / harm, PENALTY * count**2)
    samples = ask(sampler, model, num_reads=num_reads, seed=seed, parameters=parameters)
    order = [samples.variables.index(str(i)) for i in range(n)]
    reads = np.unique(samples.record.sample[:, order].astype(bool), axis=0)
    right = samples.record.sample.sum(axis=1) == count
    repaired = [_repaired(read, matrix, count) for read in reads]
    energies = [float(x @ matrix @ x) for x in repaired]
    best = int(np.argmin(energies))
    weights = samples.record.num_occurrences
    return Subset(repaired[best], energies[best], float(right @ weights / weights.sum()), dict(samples.info))


def _repaired(read: Bools, matrix: Floats, count: int) -> NDArray[np.bool_]:
    """The read with as many units as ``count``, by the flips that cost least, one after another."""
    x, own = read.copy(), np.diag(matrix)
    while (missing := count - int(x.sum())) != 0:
        into = own + 2.0 * (matrix @ x - own * x)  # what each unit adds to the others that go
        cost = np.where(x, np.inf, into) if missing > 0 else np.where(x, -into, np.inf)
        x[int(np.argmin(cost))] ^= True
    return x
