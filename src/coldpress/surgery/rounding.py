"""Rounding as the runtime will do it: int8 weights a channel, uint8 activations a tensor, or a run's part of it."""

from __future__ import annotations

import torch
from torch import Tensor


def round_weight(weight: Tensor, bits: int = 8) -> Tensor:
    """Weights rounded to a symmetric signed grid with one scale an output: ``(outputs, ...)``."""
    top = 2 ** (bits - 1) - 1
    scale = weight.flatten(1).abs().amax(dim=1).clamp_min(1e-12) / top
    scale = scale.reshape(-1, *[1] * (weight.dim() - 1))
    return (weight / scale).round().clamp(-top, top) * scale


def round_table(table: Tensor) -> Tensor:
    """A table of embeddings ``(rows, features)`` rounded to 8 bits with one scale a feature."""
    return round_weight(table.T).T


def round_activation(tensor: Tensor, bits: int = 8) -> Tensor:
    """Activations rounded to an unsigned grid over their range, which always holds zero."""
    low, high = tensor.amin().clamp_max(0.0), tensor.amax().clamp_min(0.0)
    top = 2**bits - 1
    scale = ((high - low) / top).clamp_min(1e-12)
    zero = (-low / scale).round()
    return ((tensor / scale + zero).round().clamp(0, top) - zero) * scale


def round_in_runs(tensor: Tensor, batch: int) -> Tensor:
    """Activations ``(samples, ...)`` of runs of ``batch`` samples, each rounded over its own range."""
    runs = [tensor[start : start + batch] for start in range(0, len(tensor), batch)]
    return torch.cat([round_activation(run) for run in runs])
