"""How much a network's answer depends on the tokens that a layer hands out: what least squares weighs them by.

A classifier of texts reads its answer at one token. In its last layers the others do not matter, and a fit to them all
would spend the layer's few neurons on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from coldpress.network import evaluating, logits_of

TEXTS = 128
LEAST = 1e-3
"""Weight of a token at least, relative to the first: least squares stay well-posed."""


def token_influence(
    model: nn.Module, inputs: Sequence[Tensor], mask: Tensor, names: Sequence[str], *, seed: int = 0
) -> dict[str, float]:
    """Of linear layers on tokens, how much another token's output matters relative to the first one's.

    That is the ratio of the mean squares of the gradients of the answer's log-likelihood, answers drawn from the
    network's own: the diagonal of the Fisher information. Where every token has logits nothing is told.

    Args:
        model: the network.
        inputs: calibration inputs, each ``(texts, ...)``; some are used.
        mask: which tokens are real, ``(texts, tokens)``.
        names: layers; those that do not run on tokens are left out.
        seed: of the answers.
    """
    parts = [tensor[:TEXTS] for tensor in inputs]
    real = mask[:TEXTS].to(torch.float32)
    seen: dict[str, list[Tensor]] = {}
    modules: Mapping[nn.Module, str] = {model.get_submodule(name): name for name in names}

    def note(module: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(output, Tensor) and output.dim() == 3 and output.shape[:2] == real.shape and output.requires_grad:
            seen.setdefault(modules[module], []).append(output)

    wanted = [(p, p.requires_grad) for p in model.parameters()]
    handles = [module.register_forward_hook(note) for module in modules if isinstance(module, nn.Linear)]
    try:
        with evaluating(model), torch.inference_mode(False), torch.enable_grad():
            for parameter, _ in wanted:
                parameter.requires_grad_(True)
            logits = logits_of(model(*parts))
            if len(logits) != len(real) or not seen:
                return {}
            answers = torch.multinomial(
                logits.detach().double().softmax(1), 1, generator=torch.Generator().manual_seed(seed)
            )
            loss = functional.cross_entropy(logits, answers.flatten(), reduction="sum")
            outputs = [output for calls in seen.values() for output in calls]
            gradients = iter(torch.autograd.grad(loss, outputs, allow_unused=True))
    finally:
        for handle in handles:
            handle.remove()
        for parameter, was in wanted:
            parameter.requires_grad_(was)
    found = {}
    for name, calls in seen.items():
        squares = sum((_squares(next(gradients), real) for _ in calls), torch.zeros_like(real))
        first = float(squares[:, 0].mean())
        others = float(squares[:, 1:].sum() / real[:, 1:].sum().clamp_min(1.0))
        found[name] = 1.0 if first == others == 0.0 else min(max(others / max(first, 1e-30), LEAST), 1.0 / LEAST)
    return found


def row_weights(ratio: float, positions: Tensor, texts: int) -> Tensor:
    """Weights of a layer's rows at some positions, ``(texts * positions,)``: the first token's 1, others' the ratio."""
    return torch.where(positions == 0, 1.0, ratio).repeat(texts)


def _squares(gradient: Tensor | None, real: Tensor) -> Tensor:
    return torch.zeros_like(real) if gradient is None else gradient.square().sum(dim=-1) * real
