"""Which of a layer's weights are zero: a fraction of each row, or all but n of each m neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from coldpress.errors import SurgeryError

Pattern = float | tuple[int, int] | None


def kept_of(sparsity: float | str | None, columns: int) -> int:
    """How many of a row's weights are not zeroed; raises SurgeryError for what is no sparsity."""
    pattern = pattern_of(sparsity, columns)
    if pattern is None:
        return columns
    keep, of = _split(pattern, columns)
    return columns // of * keep + columns % of


def _split(pattern: float | tuple[int, int], columns: int) -> tuple[int, int]:
    """Of how many neighbours how many stay: (stay, neighbours)."""
    return pattern if isinstance(pattern, tuple) else (columns - round(pattern * columns), columns)


def smallest(importance: Tensor, pattern: float | tuple[int, int]) -> Tensor:
    """Which weights go by their own size: a fraction of each row, or m - n of each m neighbours."""
    rows, columns = importance.shape
    keep, of = _split(pattern, columns)
    whole = columns // of * of
    gone = torch.zeros_like(importance, dtype=torch.bool)
    places = importance[:, :whole].reshape(rows, -1, of).argsort(dim=2)[:, :, : of - keep]
    gone[:, :whole] = torch.zeros(rows, whole // of, of, dtype=torch.bool).scatter_(2, places, True).view(rows, whole)
    return gone


def pattern_of(sparsity: float | str | None, columns: int) -> Pattern:
    if sparsity is None or sparsity == 0:
        return None
    if isinstance(sparsity, str):
        parts = sparsity.split(":")
        if len(parts) == 2 and all(part.isdigit() for part in parts):
            keep, of = int(parts[0]), int(parts[1])
            if 0 < keep < of <= columns:
                return keep, of
    elif 0 < sparsity < 1:
        return float(sparsity)
    raise SurgeryError(f"sparsity is {sparsity!r}; it must be a fraction in [0, 1), or n:m with 0 < n < m, 2:4 say")
