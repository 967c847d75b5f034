"""The default energy over single filters and bits: changes of the logits, by the curvature of the KL divergence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import dimod
import numpy as np
import torch
from torch import Tensor, nn

from coldpress.energy.features import from_features
from coldpress.energy.suffix import Suffix
from coldpress.errors import TaskError
from coldpress.filters import FilterSpace
from coldpress.network import divergence
from coldpress.surgery.channels import removed_indices
from coldpress.surgery.decode import changed_layers

Progress = Callable[[int, int], None]
MOST_SCALED = 5.0
"""Features are scaled to their measured KL, by this factor at most."""


def curvature(
    model: nn.Module, space: FilterSpace, inputs: Sequence[Tensor], progress: Progress | None = None
) -> dimod.BinaryQuadraticModel:
    """Every filter's going and every number of bits is run alone, behind the layer that it changes.

    With d the change of the logits, p the original's probabilities and N the rows, the features are
    (diag(p) - p p^T)^(1/2) d / sqrt(N): the energy is the KL (nats) to second order, for changes that add up. Each
    one's own harm is its measured KL.

    Args:
        model: the original.
        space: its filters and layers.
        inputs: calibration inputs, each ``(samples, ...)``; recorded whole, so some hundred samples at most.
        progress: called with (runs done, runs in all).

    Raises:
        TaskError: the model's outputs are not finite.
        SamplerError: there would be too many couplings.
    """
    numbers = range(space.most_bits, space.least_bits - 1, -1)
    with Suffix(model, inputs) as suffix:
        if not bool(torch.isfinite(suffix.logits).all()):
            raise TaskError("the model's outputs on the calibration data are not finite (NaN or Inf)")
        runs = (suffix.run(changed) for changed in _alone(model, space, numbers))
        total = len(space.filters) + len(space.layers) * len(numbers)
        features, kl = [], []
        for done, logits in enumerate(runs):
            logits = torch.nan_to_num(logits, nan=0.0, posinf=1e4, neginf=-1e4)
            kl.append(max(divergence(suffix.logits, logits), 0.0))
            features.append(_feature(suffix.logits, logits))
            if progress:
                progress(done + 1, total)
    harms, found = np.array(kl), torch.stack(features).double().numpy()
    own = 0.5 * np.square(found).sum(axis=1)
    scale = np.sqrt(np.divide(harms, own, out=np.ones_like(own), where=own > 1e-15))
    found = found * np.clip(scale, 1 / MOST_SCALED, MOST_SCALED)[:, None]
    p, shape = len(space.filters), (len(space.layers), len(numbers))
    return from_features(space, found[:p], found[p:].reshape(*shape, -1), harms[:p], harms[p:].reshape(shape))


def _alone(model: nn.Module, space: FilterSpace, numbers: range) -> Iterator[dict[str, Callable[[Tensor], Tensor]]]:
    """What changes under each decision alone: filters first, then each layer's numbers of bits."""
    for g, a in space.filters:
        group = space.groups[g]
        stay = np.setdiff1d(np.arange(group.channels), np.arange(a * group.atom, (a + 1) * group.atom))
        yield changed_layers(model, {}, removed_indices([(group, stay)]))
    for layer in space.layers:
        for bits in numbers:
            yield changed_layers(model, {layer.name: bits}, {})


def _feature(teacher: Tensor, logits: Tensor) -> Tensor:
    """(diag(p) - p p^T)^(1/2) d / sqrt(rows), flat."""
    p, d = teacher.double().softmax(1), logits.double() - teacher.double()
    root = p.sqrt() * (d - (p * d).sum(1, keepdim=True))
    return (root / len(p) ** 0.5).float().flatten()
