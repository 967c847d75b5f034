"""Gradients of single samples' losses by masks on channels: what Fisher energies are made of.

With g_n the gradient of sample n's loss by what is decided, 1/(2N) sum_n (g_n . x)^2 is the loss's second-order growth
at a minimum, its Hessian replaced by the Fisher information (Theis et al. 2018, arXiv:1801.05787; Kwon et al. 2022,
arXiv:2204.09656). Its couplings have rank N at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.errors import TaskError
from coldpress.network import logits_of
from coldpress.plan import ChannelGroup


def mask_gradients(
    model: nn.Module,
    inputs: Sequence[Tensor],
    groups: Sequence[ChannelGroup],
    labels: Tensor | None = None,
    *,
    seed: int = 0,
    batch_size: int = 64,
) -> Tensor:
    """The gradient of each sample's cross-entropy (nats) by a mask on each channel, at masks of one.

    A channel's mask multiplies it wherever it is read: the loss changes by minus the gradient, to first order, when
    the channel goes.

    Args:
        model: the network; it is not changed.
        inputs: each ``(samples, ...)``.
        groups: whose channels are masked.
        labels: ``(samples,)``, or ``(samples, tokens)`` of a decoder; None draws them from the network's own answers,
            as the Fisher information has it.
        seed: of that draw.
        batch_size: samples a pass.

    Returns:
        ``(samples, channels)`` float32, the groups' channels one after the other.

    Raises:
        TaskError: outputs or gradients are not finite.
    """
    readers: dict[str, list[tuple[int, NDArray[np.int64]]]] = {}
    channels = 0
    for group in groups:
        for member in group.of_role("in"):
            readers.setdefault(member.module, []).append((channels, member.index))
        channels += group.channels
    twin, found = differentiable(model), torch.zeros(len(inputs[0]), channels)
    here = slice(0, 0)

    def add(name: str, product: Tensor) -> None:
        module = twin.get_submodule(name)
        first_position, end = (1, product.dim() - 1) if isinstance(module, nn.Linear) else (2, product.dim())
        sums = product.sum(tuple(range(first_position, end))) if first_position < end else product
        for first, index in readers[name]:
            found[here, first : first + len(index)] += sums[:, torch.from_numpy(index)].sum(2).float()

    def watch(name: str) -> None:
        def enter(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            value = args[0].clone()  # so that the gradient is by this reader alone
            if value.requires_grad:
                value.register_hook(lambda gradient: add(name, value.detach() * gradient))
            return (value, *args[1:])

        twin.get_submodule(name).register_forward_pre_hook(enter)

    for name in readers:
        watch(name)
    for start in range(0, len(found), batch_size):
        here = slice(start, start + batch_size)
        backward(twin, [tensor[here] for tensor in inputs], None if labels is None else labels[here], seed + start)
    return finite(found)


def differentiable(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose parameters, and so all activations behind them, have gradients."""
    return deepcopy(model).eval().requires_grad_(True)


def backward(model: nn.Module, inputs: Sequence[Tensor], labels: Tensor | None, seed: int) -> None:
    """Run samples forth and back; the loss is their cross-entropies' sum, so each one's gradients are its own.

    Args:
        model: of `differentiable`, with hooks.
        inputs: each ``(samples, ...)``.
        labels: as in `mask_gradients`.
        seed: of labels that are drawn.

    Raises:
        TaskError: the outputs are not finite.
    """
    with torch.enable_grad():
        logits = logits_of(model(*inputs))
        if not bool(torch.isfinite(logits).all()):
            raise TaskError("the model's outputs on the calibration data are not finite (NaN or Inf)")
        if labels is None:
            answers = logits.detach().double().softmax(1)
            drawn = torch.multinomial(answers, 1, generator=torch.Generator().manual_seed(seed))
            labels = drawn[:, 0]
        loss = F.cross_entropy(logits, labels.flatten(), reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]
    model.zero_grad(set_to_none=True)


def finite(gradients: Tensor) -> Tensor:
    """The gradients. Raises TaskError when some are NaN or infinite."""
    if not bool(gradients.isfinite().all()):
        raise TaskError("gradients on the calibration data are not finite (NaN or Inf); look at the model")
    return gradients
