"""Where and how exactly to compute: the device, and bf16 where it is native."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldpress.errors import TaskError
from coldpress.recovery.parallel import processes

Context = Callable[[], AbstractContextManager[Any]]


def choose_device(name: str) -> torch.device:
    """ "auto" is a GPU where there is one (of several processes each has its own), else the CPU.

    Raises:
        TaskError: the device is not there.
    """
    if name == "auto":
        own = processes().device
        return own if own is not None else torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TaskError(f"device {name!r} cannot be used here ({error}); choose auto, cpu or cuda") from error
    return device


def autocast(device: torch.device, precision: str) -> Context:
    """The context of a forward pass: bf16 where asked for or, with "auto", where the device has it natively."""
    if precision == "bf16" or (precision == "auto" and _has_bf16(device.type)):
        return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext


def place(x: Tensor, device: torch.device) -> Tensor:
    """``x`` on the device, images in channels-last order, which is the faster one for convolutions."""
    return x.to(device, memory_format=torch.channels_last) if x.dim() == 4 else x.to(device)


def place_model(model: nn.Module, device: torch.device) -> None:
    """Move a model to the device, its convolutions in channels-last order."""
    model.to(device)
    if any(p.dim() == 4 for p in model.parameters()):
        model.to(memory_format=torch.channels_last)


@functools.cache
def _has_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return kind == "cpu" and ("avx512_bf16" in flags or "amx_bf16" in flags)
