"""From a sum of layer times to a whole model's time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls


def calibrate(predicted: Sequence[float], measured: Sequence[float]) -> tuple[float, float]:
    """Scale and overhead, neither negative, that turn sums of layer times into a whole model's.

    One pair gives a scale alone. More are fitted by least absolute relative errors, so that one bad measurement
    does not spoil the rest.

    Args:
        predicted: sums of layer times, seconds, shape ``(models,)``.
        measured: the same models' times, seconds, shape ``(models,)``.

    Returns:
        (scale, overhead in seconds).

    Raises:
        ValueError: no pair, or a time that is not positive.
    """
    p, m = np.asarray(predicted, np.float64), np.asarray(measured, np.float64)
    if p.shape != m.shape or not p.size or not ((p > 0).all() and (m > 0).all()):
        raise ValueError(f"calibration needs pairs of positive times, got {list(p)} and {list(m)}")
    alone = float(np.exp(np.median(np.log(m / p)))), 0.0
    if np.ptp(p) <= 0.02 * p.max():
        return alone
    rows = np.stack([p, np.ones_like(p)], axis=1) / m[:, None]
    weights = np.ones_like(p)
    for _ in range(20):
        (scale, overhead), _ = nnls(rows * weights[:, None], weights)
        weights = 1 / np.sqrt(np.maximum(np.abs(rows @ (scale, overhead) - 1), 0.01))
    return (float(scale), float(overhead)) if scale > 0 else alone
