"""Ranks by rule, one layer at a time: the energy of singular values kept, or what stands out of noise (EVBMF).

A solver decides ranks of all layers together, from measured harm and cost; these rules are what it is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from scipy import optimize
from torch import Tensor

from coldpress.errors import PlanError
from coldpress.layer_shape import LayerShape, Method

Rule = Callable[[Tensor], int]
"""The rank of a matrix."""

_THRESHOLD = 2.5129  # of a square matrix, times the root of its shape's ratio: Nakajima et al. 2013, section 4


def named_rule(text: str) -> Rule:
    """The rule called "evbmf", or "energy:SHARE", `rank_by_energy` with that share.

    Raises:
        PlanError: no rule is called so, or the share is out of range.
    """
    name, _, share = text.partition(":")
    if text == "evbmf":
        return rank_by_evbmf
    try:
        if name == "energy" and 0.0 < float(share) <= 1.0:
            return partial(rank_by_energy, share=float(share))
    except ValueError:
        pass
    raise PlanError(
        f"rank is {text!r}; give a whole number, energy:SHARE with a share above 0 and at most 1 (energy:0.9, say), "
        "or evbmf"
    )


def rank_by_energy(matrix: Tensor, share: float = 0.9) -> int:
    """The least rank whose singular values hold so large a share of the sum of squares; at least 1.

    Args:
        matrix: ``(rows, columns)``.
        share: above 0, at most 1.

    Raises:
        PlanError: the share is out of range, or the matrix has NaN or infinite entries.
    """
    if not 0.0 < share <= 1.0:
        raise PlanError(f"the share of energy kept is {share:g}; it is above 0 and at most 1")
    energies = _singular_values(matrix).square()
    reached = energies.cumsum(0) >= share * energies.sum() * (1.0 - 1e-12)
    return 1 + int(reached.to(torch.int8).argmax())


def rank_by_evbmf(matrix: Tensor) -> int:
    """The rank that stands out of white noise: empirical variational Bayesian matrix factorisation; at least 1.

    The noise's variance is found by minimising the free energy, which is a function of one number; singular values
    above the threshold that follows are signal. Source: Nakajima, Sugiyama, Babacan and Tomioka, "Global analytic
    solution of fully-observed variational Bayesian matrix factorization", JMLR 14 (2013), theorems 2 and 3.

    Args:
        matrix: ``(rows, columns)``.

    Raises:
        PlanError: the matrix has NaN or infinite entries.
    """
    values = _singular_values(matrix)
    short, long = sorted(matrix.shape)
    squares = values.square()
    if float(squares.sum()) == 0.0:
        return 1
    alpha = short / long
    tau = _THRESHOLD * math.sqrt(alpha)
    edge = (1.0 + tau) * (1.0 + alpha / tau)  # in units of long * variance

    def free_energy(log_variance: float) -> float:
        x = squares / (long * math.exp(log_variance))
        signal, noise = x[x > edge], x[x <= edge].clamp_min(1e-300)
        shifted = signal - (1.0 + alpha)
        found = 0.5 * (shifted + (shifted.square() - 4.0 * alpha).clamp_min(0.0).sqrt())
        total = (noise - noise.log()).sum() + (signal - found).sum()
        total = total + ((found + 1.0) / signal).log().sum() + alpha * (found / alpha + 1.0).log().sum()
        return float(total)

    most = min(math.ceil(short / (1.0 + alpha)) - 1, short - 1)
    high = float(squares.sum()) / (short * long)
    low = max(float(squares[most]) / (long * edge), float(squares[most:].mean()) / long, 1e-12 * high)
    if low >= high:
        return 1
    bounds = (math.log(low), math.log(high))
    variance = math.exp(optimize.minimize_scalar(free_energy, bounds=bounds, method="bounded").x)
    return max(1, int((squares > long * variance * edge).sum()))


def ruled_rank(shape: LayerShape, weight: Tensor, method: Method, rule: Rule) -> tuple[int, ...]:
    """The ranks of a layer's factors by a rule, from the unfolding that each of them cuts.

    Args:
        shape: the dense layer.
        weight: its weight as PyTorch stores it.
        method: "svd", "spatial" or "tucker".
        rule: `rank_by_energy` or `rank_by_evbmf`, or any of the same form.

    Raises:
        PlanError: the layer is dense or grouped, or the method's rank is that of no unfolding (cp, tensor-train).
    """
    if method not in ("svd", "spatial", "tucker") or shape.groups > 1:
        raise PlanError(
            f"a rule needs svd, spatial or tucker of an ungrouped layer, not {method!r} in {shape.groups} groups"
        )
    outputs = weight.shape[0]
    if method == "svd":
        return (rule(weight.reshape(outputs, -1)),)
    tensor = weight.reshape(outputs, -1, *shape.kernel)
    if method == "spatial":
        return (rule(tensor.permute(1, 2, 0, 3).reshape(tensor.shape[1] * shape.kernel[0], -1)),)
    return (rule(tensor.transpose(0, 1).flatten(1)), rule(tensor.flatten(1)))


def _singular_values(matrix: Tensor) -> Tensor:
    if not bool(torch.isfinite(matrix).all()):
        raise PlanError("the layer's weights have NaN or infinite entries: no rank can be told")
    return torch.linalg.svdvals(matrix.detach().double())
