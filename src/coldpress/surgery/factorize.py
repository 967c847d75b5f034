"""Layers as products of smaller layers, fitted to the layer's output on real inputs.

A rank option is the SVD of W chol(X X^T) (the best rank-r layer in output error), not of W. Spatial and Tucker-2
forms start from weighted SVDs and then have one factor fitted by least squares; CP and tensor trains have files of
their own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from coldpress.errors import SurgeryError
from coldpress.layer_shape import LayerShape, Method
from coldpress.surgery.factor_cp import dense_cp, fit_cp
from coldpress.surgery.factor_train import TensorTrain, dense_train, fit_train
from coldpress.surgery.factorized import Factorized
from coldpress.surgery.leastsquares import centred, damped, fit_right


def build_factors(shape: LayerShape) -> Factorized:
    """Empty factor layers of the form that ``shape`` describes (its ``method`` and ``rank``)."""
    if shape.method == "tensor-train":
        return TensorTrain.of(shape)
    parts: list[nn.Module] = []
    for part in shape.factors():
        if part.kind == "embedding":
            parts.append(nn.Embedding(part.in_channels, part.out_channels))
        elif part.kind == "linear":
            parts.append(nn.Linear(part.in_channels, part.out_channels, bias=part.bias))
        else:
            parts.append(
                nn.Conv2d(
                    part.in_channels,
                    part.out_channels,
                    part.kernel,
                    part.stride,
                    part.padding,
                    part.dilation,
                    part.groups,
                    part.bias,
                )
            )
    return Factorized(*parts)


def factor_weights(
    weight: Tensor, moments: Tensor | None, kernel: tuple[int, int], method: Method, rank: tuple[int, ...]
) -> list[Tensor]:
    """Factors of a layer, best for its inputs.

    Args:
        weight: ``(outputs, columns + 1)``, float64, columns ordered (input, kernel row, kernel column), bias last.
        moments: ``(columns + 1, columns + 1)``, or None for plain SVDs of the weights.
        kernel: ``(height, width)``; (1, 1) for a linear.
        method: any but "dense".
        rank: as in LayerShape.

    Returns:
        The factors' weights as convolutions ``(out, in, height, width)``, and the bias ``(outputs,)`` as the last item.

    Raises:
        SurgeryError: a rank is not from 1 to the layer's full rank.
    """
    _check_rank(weight, kernel, method, rank)
    if moments is None:
        moments = torch.eye(weight.shape[1], dtype=weight.dtype)
    moments = damped(moments)
    if method == "svd":
        return _svd(weight, moments, kernel, rank[0])
    if method == "spatial":
        return _spatial(weight, moments, kernel, rank[0])
    if method == "cp":
        return fit_cp(weight, moments, kernel, rank[0])
    if method == "tensor-train":
        return fit_train(weight, moments, rank[0])
    return _tucker(weight, moments, kernel, rank)


def factor_table(table: Tensor, moments: Tensor | None, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """A table of embeddings as a narrower one and a linear layer, best for the rows that are looked up.

    Args:
        table: ``(rows, features)``.
        moments: of the rows with a constant, ``(features + 1, features + 1)``; None counts all rows alike.
        rank: features of the narrower table.

    Returns:
        The narrower table ``(rows, rank)``, the linear layer's weight ``(features, rank)`` and bias ``(features,)``.
    """
    rows = torch.cat([table.double(), table.new_ones(len(table), 1).double()], dim=1)
    moments = rows.T @ rows / len(rows) if moments is None else moments
    identity = torch.eye(rows.shape[1] - 1, rows.shape[1], dtype=rows.dtype)
    first, second, bias = factor_weights(identity, moments, (1, 1), "svd", (rank,))
    return rows[:, :-1] @ first[:, :, 0, 0].T, second[:, :, 0, 0], bias


def effective_weight(factors: list[Tensor], method: Method) -> Tensor:
    """The dense weight and bias ``(outputs, columns + 1)`` that factors multiply out to."""
    *parts, bias = factors
    if method == "svd":
        dense = torch.einsum("or,rihw->oihw", parts[1][:, :, 0, 0], parts[0])
    elif method == "spatial":
        dense = torch.einsum("orw,rih->oihw", parts[1][:, :, 0, :], parts[0][:, :, :, 0])
    elif method == "cp":
        dense = dense_cp(parts)
    elif method == "tensor-train":
        dense = dense_train(parts, len(bias))
    else:
        dense = torch.einsum("os,srhw,ri->oihw", parts[2][:, :, 0, 0], parts[1], parts[0][:, :, 0, 0])
    return torch.cat([dense.flatten(1), bias[:, None]], dim=1)


def _check_rank(weight: Tensor, kernel: tuple[int, int], method: Method, rank: tuple[int, ...]) -> None:
    inputs = (weight.shape[1] - 1) // math.prod(kernel)
    full = LayerShape("conv", inputs, len(weight), kernel, method=method).full_rank
    if len(rank) != len(full) or not all(1 <= own <= most for own, most in zip(rank, full)):
        given, most = (" x ".join(map(str, ranks)) for ranks in (rank, full))
        raise SurgeryError(f"rank is {given} by {method}; give 1 or more, and at most this layer's full rank, {most}")


def _svd(weight: Tensor, moments: Tensor, kernel: tuple[int, int], rank: int) -> list[Tensor]:
    plain, covariance, mean_output = centred(weight, moments)
    outputs = plain @ covariance @ plain.T
    basis = torch.linalg.eigh((outputs + outputs.T) / 2).eigenvectors[:, -rank:]  # (outputs, rank)
    first = basis.T @ plain
    mean = moments[:-1, -1] / moments[-1, -1]
    bias = mean_output - basis @ (first @ mean)
    # balanced, so that both factors train and quantise well
    scale = first.square().mean(dim=1).clamp_min(1e-20).sqrt()
    norm = scale.mean()
    first, basis = first / scale[:, None] * norm, basis * scale / norm
    inputs = plain.shape[1] // math.prod(kernel)
    return [first.reshape(rank, inputs, *kernel), basis[:, :, None, None], bias]


def _spatial(weight: Tensor, moments: Tensor, kernel: tuple[int, int], rank: int) -> list[Tensor]:
    plain, covariance, mean_output = centred(weight, moments)
    (kh, kw), outputs = kernel, len(plain)
    inputs = plain.shape[1] // (kh * kw)
    tensor = plain.reshape(outputs, inputs, kh, kw)
    # weight the (input, row) side by the inputs' covariance, averaged over kernel columns
    full = covariance.reshape(inputs, kh, kw, inputs, kh, kw)
    side = torch.einsum("abicdi->abcd", full).reshape(inputs * kh, inputs * kh) / kw
    root = torch.linalg.cholesky(side + 1e-8 * side.diagonal().mean() * torch.eye(len(side), dtype=side.dtype))
    matrix = tensor.permute(1, 2, 3, 0).reshape(inputs * kh, kw * outputs)
    u = torch.linalg.svd(root.T @ matrix, full_matrices=False)[0][:, :rank]
    first = torch.linalg.solve_triangular(root.T, u, upper=True)  # (inputs * kh, rank)
    first = first / first.square().mean(dim=0).clamp_min(1e-20).sqrt() * plain.square().mean().sqrt()
    # second factor by least squares on z[r, w] = sum_(i, h) first[i, h, r] x[i, h, w]
    lift = torch.einsum("ihr,wv->ihwrv", first.reshape(inputs, kh, rank), torch.eye(kw, dtype=plain.dtype))
    lift = lift.reshape(inputs * kh * kw, rank * kw)
    second = fit_right(plain, covariance, lift)
    mean = moments[:-1, -1] / moments[-1, -1]
    bias = mean_output - second @ (lift.T @ mean)
    return [
        first.reshape(inputs, kh, rank).permute(2, 0, 1)[:, :, :, None],
        second.reshape(outputs, rank, kw)[:, :, None, :],
        bias,
    ]


def _tucker(weight: Tensor, moments: Tensor, kernel: tuple[int, int], rank: tuple[int, ...]) -> list[Tensor]:
    plain, covariance, mean_output = centred(weight, moments)
    (kh, kw), outputs = kernel, len(plain)
    inputs = plain.shape[1] // (kh * kw)
    tensor = plain.reshape(outputs, inputs, kh * kw)
    full = covariance.reshape(inputs, kh * kw, inputs, kh * kw)
    side = torch.einsum("aibi->ab", full) / (kh * kw)
    root = torch.linalg.cholesky(side + 1e-8 * side.diagonal().mean() * torch.eye(inputs, dtype=side.dtype))
    by_input = tensor.permute(1, 2, 0).reshape(inputs, -1)
    u = torch.linalg.svd(root.T @ by_input, full_matrices=False)[0][:, : rank[0]]
    first = torch.linalg.solve_triangular(root.T, u, upper=True)  # (inputs, r0)
    first = first / first.square().mean(dim=0).clamp_min(1e-20).sqrt() * plain.square().mean().sqrt()
    lift = torch.einsum("ir,kl->ikrl", first, torch.eye(kh * kw, dtype=plain.dtype))
    lift = lift.reshape(inputs * kh * kw, rank[0] * kh * kw)
    middle = fit_right(plain, covariance, lift)  # (outputs, r0 * k * k)
    reduced = lift.T @ covariance @ lift
    produced = middle @ reduced @ middle.T
    basis = torch.linalg.eigh((produced + produced.T) / 2).eigenvectors[:, -rank[1] :]
    core = basis.T @ middle
    scale = core.square().mean(dim=1).clamp_min(1e-20).sqrt()
    norm = scale.mean()
    core, basis = core / scale[:, None] * norm, basis * scale / norm
    mean = moments[:-1, -1] / moments[-1, -1]
    bias = mean_output - basis @ (core @ (lift.T @ mean))
    return [first.T[:, :, None, None], core.reshape(rank[1], rank[0], kh, kw), basis[:, :, None, None], bias]
