"""Mixup: images are mixed in pairs, and with them their labels (Zhang et al. 2018, arXiv:1710.09412).

In distillation the original answers the very same mixed images: it says more of itself there than on images that it
was trained on (Beyer et al. 2022, arXiv:2106.05237).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from coldpress.errors import TaskError


def mixed(inputs: Sequence[Tensor], labels: Tensor, classes: int, alpha: float) -> tuple[tuple[Tensor, ...], Tensor]:
    """A batch mixed with itself in reverse order, by a share drawn from Beta(alpha, alpha) with the global generator.

    Args:
        inputs: images, each ``(batch, channels, height, width)``.
        labels: ``(batch,)``.
        classes: how many there are.
        alpha: above 0; 1 draws the share uniformly.

    Returns:
        The inputs, and the probability of each class, ``(batch, classes)``.

    Raises:
        TaskError: an input holds no images.
    """
    if not all(x.is_floating_point() and x.dim() == 4 for x in inputs):
        raise TaskError("mixup mixes images (batch, channels, height, width); these inputs are others: leave it out")
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    targets = F.one_hot(labels, classes).float()
    images = tuple(share * x + (1 - share) * x.flip(0) for x in inputs)
    return images, share * targets + (1 - share) * targets.flip(0)
