"""Factors multiply out to the layer, are the best of their rank, and run as layers of any geometry."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.plan import LayerShape, Method
from coldpress.space import layer_shapes
from coldpress.surgery.factorize import build_factors, effective_weight, factor_weights, fill_factors
from coldpress.surgery.leastsquares import damped
from coldpress.surgery.moments import second_moments
from coldpress.surgery.refit import dense_weight

INPUTS, OUTPUTS = 6, 8
METHODS: tuple[Method, ...] = ("svd", "spatial", "tucker")


def full_rank(method: Method, kernel: tuple[int, int]) -> tuple[int, ...]:
    if method == "svd":
        return (min(OUTPUTS, INPUTS * kernel[0] * kernel[1]),)
    return (min(INPUTS * kernel[0], OUTPUTS * kernel[1]),) if method == "spatial" else (INPUTS, OUTPUTS)


def random_weight(kernel: tuple[int, int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(OUTPUTS, INPUTS * kernel[0] * kernel[1] + 1, generator=generator, dtype=torch.float64)


def moments_for(columns: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    rows = torch.randn(500, columns, generator=generator, dtype=torch.float64) @ mix + 0.7
    return second_moments(rows).matrix


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 5), (1, 3)])
@pytest.mark.parametrize("method", METHODS)
def test_full_rank_reproduces_the_layer(method: Method, kernel: tuple[int, int], known: bool) -> None:
    weight = random_weight(kernel)
    moments = moments_for(weight.shape[1] - 1) if known else None
    factors = factor_weights(weight, moments, kernel, method, full_rank(method, kernel))
    torch.testing.assert_close(effective_weight(factors, method), weight, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_svd_is_the_best_of_its_rank_in_output_error(rank: int) -> None:
    weight = random_weight((3, 3))
    moments = damped(moments_for(weight.shape[1] - 1))
    mean = moments[:-1, -1] / moments[-1, -1]
    covariance = moments[:-1, :-1] - moments[-1, -1] * torch.outer(mean, mean)
    values = torch.linalg.svdvals(weight[:, :-1] @ torch.linalg.cholesky(covariance))
    factors = factor_weights(weight, moments_for(weight.shape[1] - 1), (3, 3), "svd", (rank,))
    change = effective_weight(factors, "svd") - weight
    error = ((change @ moments) * change).sum()
    assert float(error) == pytest.approx(float(values[rank:].square().sum()), rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_more_rank_is_never_worse_and_inputs_help(method: Method) -> None:
    weight = random_weight((3, 3), seed=3)
    moments = moments_for(weight.shape[1] - 1)

    def error(rank: int, known: bool) -> float:
        full = full_rank(method, (3, 3))
        ranks = (min(rank, full[0]),) if len(full) == 1 else (min(rank, full[0]), min(rank, full[1]))
        factors = factor_weights(weight, moments if known else None, (3, 3), method, ranks)
        change = effective_weight(factors, method) - weight
        return float(((change @ moments) * change).sum())

    errors = [error(rank, True) for rank in (1, 2, 4, 6, 8)]
    assert all(more <= less * 1.001 + 1e-9 for less, more in pairwise(errors))
    assert sum(error(rank, True) for rank in (2, 4)) < sum(error(rank, False) for rank in (2, 4))


GEOMETRIES = [
    (kernel, stride, padding, dilation)
    for kernel, stride, padding, dilation in product([(1, 1), (3, 3), (5, 5), (3, 1)], [1, 2], [0, 1, 2], [1, 2])
]


@pytest.mark.parametrize("method", METHODS)
def test_factors_run_as_layers_of_any_geometry(method: Method) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, INPUTS, 13, 12, generator=generator)
    for kernel, stride, padding, dilation in GEOMETRIES:
        layer = nn.Conv2d(INPUTS, OUTPUTS, kernel, stride, padding, dilation)
        rank = tuple(max(1, r // 2) for r in full_rank(method, kernel))
        shape = replace(layer_shapes(nn.Sequential(layer), (x,))["0"], method=method, rank=rank)
        factors = factor_weights(dense_weight(layer), None, kernel, method, rank)
        built = build_factors(shape)
        fill_factors(built, factors)
        dense = effective_weight(factors, method)
        weight = dense[:, :-1].reshape(layer.weight.shape).float()
        with torch.no_grad():
            wanted = F.conv2d(x, weight, dense[:, -1].float(), stride, padding, dilation)
            torch.testing.assert_close(built(x), wanted, atol=1e-5, rtol=1e-4)
        assert sum(p.numel() for p in built.parameters()) == shape.parameters
        assert tuple(wanted.shape[2:]) == shape.output_size


@pytest.mark.parametrize("shape", [(7, INPUTS), (3, 4, INPUTS)])
@pytest.mark.parametrize("bias", [True, False])
def test_factors_run_as_linear_layers(shape: tuple[int, ...], bias: bool) -> None:
    layer, x = nn.Linear(INPUTS, OUTPUTS, bias=bias), torch.randn(shape)
    factors = factor_weights(dense_weight(layer), None, (1, 1), "svd", (3,))
    built = build_factors(LayerShape("linear", INPUTS, OUTPUTS, bias=bias, method="svd", rank=(3,)))
    fill_factors(built, factors)
    dense = effective_weight(factors, "svd").float()
    with torch.no_grad():
        torch.testing.assert_close(built(x), F.linear(x, dense[:, :-1], dense[:, -1]), atol=1e-5, rtol=1e-4)
