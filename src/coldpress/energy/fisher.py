"""The Fisher energy of single channels, heads and neurons: a diagonal and a factor of low rank.

With g_n the gradient of sample n's loss by a mask on every channel, the loss grows by 1/(2N) sum_n (g_n . x)^2 where
the channels x go: its Hessian at a minimum is replaced by the Fisher information, the labels being drawn from the
network's own answers (Theis et al. 2018, arXiv:1801.05787; Kwon et al. 2022, arXiv:2204.09656). For such labels this is
the second-order term of KL(original || compressed), in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from coldpress.errors import TaskError
from coldpress.network import evaluating, logits_of
from coldpress.plan import ChannelGroup
from coldpress.selection import Floats


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

    A channel's mask multiplies it wherever it is read, as `coldpress.surgery.channels.mask_inputs` zeroes it there.

    Args:
        model: the network; it is not changed.
        inputs: each ``(samples, ...)``.
        groups: whose channels are masked.
        labels: ``(samples,)``, or ``(samples, tokens)`` of a decoder; None draws them from the network's answers.
        seed: of that draw.
        batch_size: samples a pass.

    Returns:
        ``(samples, channels)`` float32, the groups' channels one after the other. Where every token has logits, a
        sample's gradient is its tokens' sum over the root of their number, so that G^T G / samples is of one token.

    Raises:
        TaskError: outputs or gradients are not finite.
    """
    readers: dict[str, list[tuple[int, Tensor]]] = {}
    channels = 0
    for group in groups:
        for member in group.of_role("in"):
            readers.setdefault(member.module, []).append((channels, torch.from_numpy(member.index)))
        channels += group.channels
    masks = torch.ones(0, channels)  # of the batch that runs

    def mask(name: str) -> Any:
        def enter(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            value = args[0]
            last = isinstance(module, nn.Linear)
            width = value.shape[-1] if last else value.shape[1]
            whole = masks.new_ones(len(masks), width)
            for first, index in readers[name]:
                own = masks[:, first : first + len(index)].repeat_interleave(index.shape[1], dim=1)
                whole = whole.index_copy(1, index.ravel(), own)
            if len(value) % len(masks):
                raise TaskError(f"{name!r} reads {len(value)} rows of {len(masks)} samples: whose they are is unknown")
            whole = whole.repeat_interleave(len(value) // len(masks), dim=0)  # windows, tokens: sample after sample
            shape = (len(value), *(1,) * (value.dim() - 2), width) if last else (len(value), width, 1, 1)
            return (value * whole.reshape(shape), *args[1:])

        return enter

    found = torch.empty(len(inputs[0]), channels)
    modes = {module: module.training for module in model.modules()}
    with ExitStack() as undo, torch.enable_grad():
        model.eval()
        for module, mode in modes.items():
            undo.callback(setattr, module, "training", mode)
        for name in readers:
            undo.callback(model.get_submodule(name).register_forward_pre_hook(mask(name)).remove)
        for start in range(0, len(found), batch_size):
            part = slice(start, start + batch_size)
            batch = [tensor[part] for tensor in inputs]
            masks = torch.ones(len(batch[0]), channels, requires_grad=True)
            logits = logits_of(model(*batch))
            loss = summed_loss(logits, None if labels is None else labels[part], seed + start)
            found[part] = torch.autograd.grad(loss, masks)[0] * (len(batch[0]) / len(logits)) ** 0.5
    return finite(found)


def fisher_importance(
    model: nn.Module, inputs: Sequence[Tensor], groups: Sequence[ChannelGroup], *, seed: int = 0
) -> dict[str, Tensor]:
    """What the loss grows by where one atom of a group goes alone, ``(atoms,)`` float64 (nats of a sample), by group.

    Args:
        model, inputs, groups, seed: as of `mask_gradients`.
    """
    gradients = mask_gradients(model, inputs, groups, seed=seed).double()
    parts = gradients.split_with_sizes([group.channels for group in groups], dim=1)
    return {
        group.name: 0.5 * part.reshape(len(part), -1, group.atom).sum(dim=2).square().mean(dim=0)
        for group, part in zip(groups, parts)
    }


def weight_fisher(
    model: nn.Module, names: Sequence[str], inputs: Sequence[Tensor], labels: Tensor | None = None, *, seed: int = 0
) -> dict[str, Tensor]:
    """The diagonal of the Fisher information of layers' weights: mean squares of each sample's gradient.

    Args:
        model: the network; it is not changed.
        names: of layers with a weight.
        inputs: each ``(samples, ...)``; one sample is run at a time.
        labels: as of `mask_gradients`.
        seed: of the draw of labels.

    Returns:
        By name, in the weight's shape, float64 (nats of a sample by the weight squared).

    Raises:
        TaskError: outputs or gradients are not finite.
    """
    weights = [model.get_submodule(name).get_parameter("weight") for name in names]
    sums = [torch.zeros_like(weight, dtype=torch.float64) for weight in weights]
    flags = [weight.requires_grad for weight in weights]
    with evaluating(model), torch.enable_grad():
        for weight in weights:
            weight.requires_grad_(True)
        try:
            for i in range(len(inputs[0])):
                logits = logits_of(model(*[tensor[i : i + 1] for tensor in inputs]))
                loss = summed_loss(logits, None if labels is None else labels[i : i + 1], seed + i)
                for total, own in zip(sums, torch.autograd.grad(loss / len(logits) ** 0.5, weights)):
                    total += own.double().square()
        finally:
            for weight, flag in zip(weights, flags):
                weight.requires_grad_(flag)
    return {name: finite(total / len(inputs[0])) for name, total in zip(names, sums)}


def summed_loss(logits: Tensor, labels: Tensor | None, seed: int) -> Tensor:
    """The sum of the rows' cross-entropies (nats), so that each row's gradients are its own.

    Args:
        logits: ``(rows, classes)``.
        labels: as many; None draws them by the logits' own probabilities, as the Fisher information has it.
        seed: of that draw.

    Raises:
        TaskError: the logits are not finite.
    """
    if not bool(torch.isfinite(logits).all()):
        raise TaskError("the model's outputs on the calibration data are not finite (NaN or Inf)")
    if labels is None:
        answers = logits.detach().double().softmax(1)
        labels = torch.multinomial(answers, 1, generator=torch.Generator().manual_seed(seed))
    return functional.cross_entropy(logits, labels.flatten(), reduction="sum")


def finite(gradients: Tensor) -> Tensor:
    """The gradients. Raises TaskError when some are NaN or infinite."""
    if not bool(torch.isfinite(gradients).all()):
        raise TaskError("gradients on the calibration data are not finite (NaN or Inf); look at the model's weights")
    return gradients


def fisher_energy(gradients: Floats, rank: int = 256, alpha: float = 1.0) -> tuple[Floats, Floats]:
    """``linear`` (n,) and ``factor`` (n, r) of the energy ``linear . x + |factor^T x|^2 / 2`` of units that go.

    The couplings are the closest of the rank to ``alpha G^T G / N``, and every unit alone costs what it does in full:
    ``G^T G / 2N`` on the diagonal, whatever rank and alpha are.

    Args:
        gradients: G, ``(samples, n)``.
        rank: of the factor, at most; no more than samples are of use.
        alpha: how much of the couplings is believed, in [0, 1]: a minimiser exploits what is wrong in them.
    """
    scaled = np.asarray(gradients, dtype=np.float64) / len(gradients) ** 0.5
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    kept = np.argsort(values)[::-1][:rank]
    kept = kept[values[kept] > 1e-12 * max(float(values[-1]), 1e-300)]
    factor = alpha**0.5 * (scaled.T @ vectors[:, kept])
    own = np.square(scaled).sum(axis=0) - np.square(factor).sum(axis=1)
    return 0.5 * np.maximum(own, 0.0), np.ascontiguousarray(factor)
