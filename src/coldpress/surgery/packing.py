"""Levels of a few bits, and the places of those that are not zero, one after the other in whole bytes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from coldpress.errors import SurgeryError


def pack_levels(levels: Tensor, bits: int) -> Tensor:
    """Levels as bytes, the first in the highest bits: ``(ceil(n * bits / 8),)`` uint8.

    >>> pack_levels(torch.tensor([-2, -1, 0, 1], dtype=torch.int8), 2).tolist()
    [27]

    Args:
        levels: n integers of any shape, from -2^(bits - 1) to 2^(bits - 1) - 1.
        bits: 2 to 8.

    Raises:
        SurgeryError: a level is out of that range.
    """
    half = 1 << (bits - 1)
    flat = levels.detach().cpu().flatten().numpy().astype(np.int16)
    if len(flat) and not -half <= flat.min() <= flat.max() < half:
        raise SurgeryError(f"levels are from {flat.min()} to {flat.max()}; {bits} bits hold {-half} to {half - 1}")
    digits = np.unpackbits((flat + half).astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]
    return torch.from_numpy(np.packbits(digits))


def unpack_levels(packed: Tensor, bits: int, count: int) -> Tensor:
    """What `pack_levels` packed: ``(count,)`` int8.

    Raises:
        SurgeryError: there are more or fewer bytes than ``count`` levels take.
    """
    if packed.dtype != torch.uint8 or packed.shape != (packed_bytes(count, bits),):
        wanted = packed_bytes(count, bits)
        raise SurgeryError(f"{count} levels of {bits} bits are {wanted} bytes, not {packed.numel()} of {packed.dtype}")
    digits = np.unpackbits(packed.numpy(), count=count * bits).reshape(count, bits)
    digits = np.pad(digits, ((0, 0), (8 - bits, 0)))
    values = np.packbits(digits, axis=1)[:, 0].astype(np.int16) - (1 << (bits - 1))
    return torch.from_numpy(values.astype(np.int8))


def pack_places(taken: Tensor) -> Tensor:
    """Flags of any shape as bits, the first the highest of its byte: ``(ceil(n / 8),)`` uint8.

    >>> pack_places(torch.tensor([True, False, True])).tolist()
    [160]
    """
    return torch.from_numpy(np.packbits(taken.detach().cpu().flatten().numpy()))


def unpack_places(packed: Tensor, count: int) -> Tensor:
    """What `pack_places` packed: ``(count,)`` bool.

    Raises:
        SurgeryError: there are more or fewer bytes than ``count`` flags take.
    """
    if packed.dtype != torch.uint8 or packed.shape != (packed_bytes(count, 1),):
        raise SurgeryError(f"{count} places are {packed_bytes(count, 1)} bytes, not {packed.numel()} of {packed.dtype}")
    return torch.from_numpy(np.unpackbits(packed.numpy(), count=count).astype(bool))


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that levels take."""
    return -(-count * bits // 8)
