"""A convolution as 1 x 1 to r channels, a k x k on each of these alone, and 1 x 1 to the outputs: CP (PARAFAC).

Source: Lebedev et al., "Speeding-up Convolutional Neural Networks Using Fine-tuned CP-Decomposition", ICLR 2015, with
both sides of the kernel in one mode, so that the middle layer is a depthwise convolution that every runtime has.
"""

from __future__ import annotations

import math

import torch
from tensorly.decomposition import parafac
from torch import Tensor

from coldpress.surgery.factorized import pytorch_backend
from coldpress.surgery.leastsquares import centred, fit_right

SWEEPS = 60
"""Rounds of alternating least squares."""


def fit_cp(weight: Tensor, moments: Tensor, kernel: tuple[int, int], rank: int) -> list[Tensor]:
    """Factors of a convolution, as `coldpress.surgery.factorize.factor_weights` returns them.

    The tensor is whitened by the covariance of the input channels, decomposed, and its last factor is fitted to the
    outputs by least squares under the whole covariance.
    """
    plain, covariance, mean_output = centred(weight, moments)
    area, outputs = math.prod(kernel), len(plain)
    inputs = plain.shape[1] // area
    side = torch.einsum("aibi->ab", covariance.reshape(inputs, area, inputs, area)) / area
    root = torch.linalg.cholesky(side + 1e-8 * side.diagonal().mean() * torch.eye(inputs, dtype=side.dtype))
    tensor = torch.einsum("ab,oai->obi", root, plain.reshape(outputs, inputs, area))
    least = min(rank, _most(tensor))  # more terms than the tensor can have make the fit singular
    first, core = tensor.new_zeros(inputs, rank), tensor.new_zeros(area, rank)
    if least:
        with pytorch_backend():
            # a random start: the default pads singular vectors with noise where the rank is above a side
            found = parafac(tensor, least, n_iter_max=SWEEPS, init="random", random_state=0, tol=1e-7)
        first[:, :least], core[:, :least] = found.factors[1:]
    first = torch.linalg.solve_triangular(root.T, first, upper=True)  # (inputs, rank)
    size = plain.square().mean().sqrt()
    first = first / first.square().mean(dim=0).clamp_min(1e-20).sqrt() * size
    core = core / core.square().mean(dim=0).clamp_min(1e-20).sqrt() * size
    lift = torch.einsum("ir,kr->ikr", first, core).reshape(inputs * area, rank)
    last = fit_right(plain, covariance, lift)
    bias = mean_output - last @ (lift.T @ (moments[:-1, -1] / moments[-1, -1]))
    return [first.T[:, :, None, None], core.T.reshape(rank, 1, *kernel), last[:, :, None, None], bias]


def _most(tensor: Tensor) -> int:
    """Terms that surely make up a tensor ``(a, b, c)``: products of two of its multilinear ranks, the least."""
    ranks = sorted(int(torch.linalg.matrix_rank(tensor.movedim(axis, 0).flatten(1))) for axis in range(3))
    return ranks[0] * ranks[1]


def dense_cp(parts: list[Tensor]) -> Tensor:
    """The convolution's weight ``(outputs, inputs, height, width)`` that its factors multiply out to."""
    return torch.einsum("or,rhw,ri->oihw", parts[2][:, :, 0, 0], parts[1][:, 0], parts[0][:, :, 0, 0])
