"""Factors multiply out to the layer, are the best of their rank, and run as layers of any geometry."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.errors import SurgeryError
from coldpress.layer_shape import LayerShape, Method, sides
from coldpress.space import layer_shapes
from coldpress.surgery.factorize import build_factors, effective_weight, factor_weights
from coldpress.surgery.leastsquares import damped
from coldpress.surgery.moments import second_moments
from coldpress.surgery.refit import dense_weight

INPUTS, OUTPUTS = 6, 8
METHODS: tuple[Method, ...] = ("svd", "spatial", "tucker")  # exact at full rank
OF_CONVOLUTIONS: tuple[Method, ...] = (*METHODS, "cp")


def full_rank(method: Method, kernel: tuple[int, int]) -> tuple[int, ...]:
    return LayerShape("conv", INPUTS, OUTPUTS, kernel, method=method).full_rank


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


@pytest.mark.parametrize("method", OF_CONVOLUTIONS)
def test_factors_run_as_layers_of_any_geometry(method: Method) -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, INPUTS, 13, 12, generator=generator)
    for kernel, stride, padding, dilation in GEOMETRIES:
        layer = nn.Conv2d(INPUTS, OUTPUTS, kernel, stride, padding, dilation)
        rank = tuple(max(1, r // 2) for r in full_rank(method, kernel))
        shape = replace(layer_shapes(nn.Sequential(layer), (x,))["0"], method=method, rank=rank)
        factors = factor_weights(dense_weight(layer), None, kernel, method, rank)
        built = build_factors(shape)
        built.fill(factors)
        dense = effective_weight(factors, method)
        weight = dense[:, :-1].reshape(layer.weight.shape).float()
        with torch.no_grad():
            wanted = F.conv2d(x, weight, dense[:, -1].float(), stride, padding, dilation)
            torch.testing.assert_close(built(x), wanted, atol=1e-5, rtol=1e-4)
        assert sum(p.numel() for p in built.parameters()) == shape.parameters
        assert tuple(wanted.shape[2:]) == shape.output_size


@pytest.mark.parametrize("shape", [(7, INPUTS), (3, 4, INPUTS)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("method", ["svd", "tensor-train"])
def test_factors_run_as_linear_layers(shape: tuple[int, ...], bias: bool, method: Method) -> None:
    layer, x = nn.Linear(INPUTS, OUTPUTS, bias=bias), torch.randn(shape)
    factors = factor_weights(dense_weight(layer), None, (1, 1), method, (3,))
    form = LayerShape("linear", INPUTS, OUTPUTS, bias=bias, method=method, rank=(3,))
    built = build_factors(form)
    assert sum(p.numel() for p in built.parameters()) == form.parameters
    built.fill(factors)
    dense = effective_weight(factors, method).float()
    with torch.no_grad():
        torch.testing.assert_close(built(x), F.linear(x, dense[:, :-1], dense[:, -1]), atol=1e-5, rtol=1e-4)


def error_of(weight: Tensor, moments: Tensor, method: Method, rank: int, known: bool = True) -> float:
    kernel = (1, 1) if method == "tensor-train" else (3, 3)
    factors = factor_weights(weight, moments if known else None, kernel, method, (rank,))
    change = effective_weight(factors, method) - weight
    return float(((change @ moments) * change).sum())


@pytest.mark.parametrize("method", ["cp", "tensor-train"])
def test_cp_and_tensor_trains_get_better_with_rank_and_with_inputs(method: Method) -> None:
    area = 9 if method == "cp" else 1
    weight = random_weight((3, 3) if method == "cp" else (1, 1), seed=3)
    moments = moments_for(INPUTS * area)
    whole = float(((weight @ moments) * weight).sum())
    errors = [error_of(weight, moments, method, rank) for rank in ((2, 8, 16, 40) if method == "cp" else (1, 2, 4, 6))]
    assert all(more < less for less, more in pairwise(errors))
    assert errors[-1] < 1e-3 * whole  # at or near full rank the layer comes back
    for rank in (2, 8) if method == "cp" else (2,):
        assert error_of(weight, moments, method, rank) < error_of(weight, moments, method, rank, known=False)


def test_a_layer_that_is_a_tensor_train_is_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    (few, many), (low, high) = sides(24), sides(30)
    cores = (torch.randn(high, few, 2, generator=generator), torch.randn(2, low, many, generator=generator))
    weight = torch.einsum("har,rlb->hlab", *cores).reshape(30, 24).double()
    weight = torch.cat([weight, torch.randn(30, 1, generator=generator)], dim=1)
    factors = factor_weights(weight, moments_for(24), (1, 1), "tensor-train", (2,))
    torch.testing.assert_close(effective_weight(factors, "tensor-train"), weight, atol=1e-5, rtol=1e-5)


def test_a_convolution_that_is_a_sum_of_few_terms_is_found_again_by_cp() -> None:
    generator = torch.Generator().manual_seed(0)
    terms = (torch.randn(n, 3, generator=generator, dtype=torch.float64) for n in (OUTPUTS, INPUTS, 9))
    weight = torch.einsum("or,ir,kr->oik", *terms).flatten(1)
    weight = torch.cat([weight, torch.zeros(OUTPUTS, 1)], dim=1)
    factors = factor_weights(weight, moments_for(INPUTS * 9), (3, 3), "cp", (3,))
    assert float((effective_weight(factors, "cp") - weight).norm() / weight.norm()) < 0.02


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_weights_that_are_all_zero_stay_zero(method: Method, known: bool) -> None:
    weight = random_weight((3, 3))
    weight[:, :-1] = 0.0
    moments = moments_for(weight.shape[1] - 1) if known else None
    factors = factor_weights(weight, moments, (3, 3), method, tuple(r // 2 for r in full_rank(method, (3, 3))))
    torch.testing.assert_close(effective_weight(factors, method), weight, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("method", ["cp", "tensor-train"])
@pytest.mark.parametrize("live", [0, 1])
def test_weights_that_are_nearly_all_zero_are_kept(method: Method, live: int) -> None:
    kernel = (3, 3) if method == "cp" else (1, 1)
    weight = random_weight(kernel)
    weight[live:, :-1] = 0.0
    factors = factor_weights(weight, moments_for(weight.shape[1] - 1), kernel, method, (24 if method == "cp" else 6,))
    torch.testing.assert_close(effective_weight(factors, method), weight, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", [*OF_CONVOLUTIONS, "tensor-train"])
def test_a_rank_above_full_or_below_one_is_refused(method: Method) -> None:
    kernel = (1, 1) if method == "tensor-train" else (3, 3)
    weight, full = random_weight(kernel), full_rank(method, kernel)
    for place in range(len(full)):
        for bad in (0, full[place] + 1):
            rank = (*full[:place], bad, *full[place + 1 :])
            with pytest.raises(SurgeryError, match=f"by {method}.*full rank, {' x '.join(map(str, full))}"):
                factor_weights(weight, None, kernel, method, rank)
    with pytest.raises(SurgeryError, match="full rank"):
        factor_weights(weight, None, kernel, method, (1,) * (3 - len(full)))


def test_tucker_of_many_inputs_and_few_outputs_has_the_rank_of_its_outputs() -> None:
    weight = torch.randn(2, 12 * 3 + 1, dtype=torch.float64)
    full = LayerShape("conv", 12, 2, (1, 3), method="tucker").full_rank
    assert full == (6, 2)
    factors = factor_weights(weight, None, (1, 3), "tucker", full)
    torch.testing.assert_close(effective_weight(factors, "tucker"), weight, atol=1e-5, rtol=1e-5)
