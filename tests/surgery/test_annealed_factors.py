"""Annealed factors: never worse than the start, in their form, and at the SVD's optimum where there is one."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from coldpress.errors import SurgeryError
from coldpress.surgery.annealed_factors import AnnealedFactors, annealed_factors
from coldpress.surgery.factor_errors import ElementError, OutputError
from coldpress.surgery.factor_forms import FactorForm, formed, improved

ROWS, COLUMNS, RANK = 8, 20, 4
FORMS = ("float", "int8", "int3", "ternary", "2:4", "ternary 2:4")


def layer(rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Weights, and the second moments of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.eye(columns) + torch.randn(columns, columns, generator=generator) / columns**0.5
    inputs = torch.relu(torch.randn(400, columns, generator=generator) @ mixed)
    return torch.randn(rows, columns, generator=generator), inputs.T @ inputs / 400


def elements(seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(ROWS, COLUMNS, generator=generator) ** 3


def output_error(weight: Tensor, hessian: Tensor, product: Tensor) -> float:
    left = weight.double() - product
    return float(torch.trace(left @ hessian.double() @ left.T))


def product_of(found: AnnealedFactors) -> Tensor:
    return found.left.value @ found.right.value


def obeys(value: Tensor, form: FactorForm) -> bool:
    """Whether rows are levels times a scale each, with zeros where the pattern wants them."""
    if form.pattern is not None:
        n, m = form.pattern
        whole = value.shape[1] // m * m
        if bool(((value[:, :whole].reshape(len(value), -1, m) != 0).sum(2) > n).any()):
            return False
    return form.top is None or all(len(row.abs().unique()) <= form.top + 1 for row in value)


@pytest.mark.parametrize(("left", "right"), [*zip(FORMS, reversed(FORMS)), ("float", "ternary"), ("2:4", "float")])
@pytest.mark.parametrize("by_element", [False, True])
def test_factors_have_their_form_and_never_lose(left: str, right: str, by_element: bool) -> None:
    weight, hessian = layer()
    measure = {"elements": elements()} if by_element else {"hessian": hessian}
    found = annealed_factors(weight, RANK, left=left, right=right, rounds=1, **measure)
    assert found.left.value.shape == (ROWS, RANK)
    assert found.right.value.shape == (RANK, COLUMNS)
    assert all(later <= earlier for earlier, later in pairwise((found.start_error, *found.history)))
    assert found.error == found.history[-1]
    missed = weight.double() - product_of(found)
    error = (missed.square() * elements()).sum() if by_element else output_error(weight, hessian, product_of(found))
    assert found.error == pytest.approx(float(error), rel=1e-6)
    for factor, begun, name in zip((found.left, found.right), found.start, (left, right)):
        form = FactorForm.named(name)
        assert obeys(factor.value, form)
        assert obeys(begun.value, form)
        assert (factor.levels is None) == (form.top is None)
        if factor.levels is not None and factor.scales is not None:
            assert int(factor.levels.abs().max()) <= (form.top or 0)
            torch.testing.assert_close(factor.levels.double() * factor.scales.double(), factor.value)
    if not by_element:
        assert found.error >= found.float_error * (1 - 1e-9)


@pytest.mark.parametrize("rank", [1, 3, ROWS])
def test_floats_stay_at_the_optimum_of_the_rank(rank: int) -> None:
    weight, hessian = layer()
    values = torch.linalg.svdvals(weight.double() @ torch.linalg.cholesky(hessian.double()))
    found = annealed_factors(weight, rank, hessian=hessian, rounds=3)
    optimum = float(values[rank:].square().sum())
    assert found.float_error == pytest.approx(optimum, abs=1e-8)
    assert found.error == pytest.approx(optimum, abs=1e-8)


def test_a_discrete_factor_gains_on_one_pass_rounding() -> None:
    weight, hessian = layer(12, 24, seed=3)
    for left, right in (("ternary", "float"), ("float", "ternary"), ("ternary", "ternary")):
        found = annealed_factors(weight, 8, hessian=hessian, left=left, right=right, rounds=3)
        assert found.error <= 0.95 * found.start_error


def test_entries_of_their_own_weight_gain_on_the_svd() -> None:
    weight, _ = layer()
    found = annealed_factors(weight, RANK, elements=elements(), rounds=3)
    assert found.error < 0.95 * found.float_error


def test_a_product_of_weights_has_the_svd_as_optimum() -> None:
    weight, _ = layer()
    rows, columns = torch.rand(ROWS, 1) + 0.1, torch.rand(1, COLUMNS) + 0.1
    found = annealed_factors(weight, RANK, elements=rows * columns, rounds=1)
    values = torch.linalg.svdvals((rows.sqrt() * weight * columns.sqrt()).double())
    assert found.error == pytest.approx(float(values[RANK:].square().sum()), rel=1e-5)


def test_tiny_ternary_rows_are_brute_force() -> None:
    """With A held and one row of B, 3^5 level rows with the best scale each."""
    weight, hessian = layer(3, 5, seed=2)
    found = annealed_factors(weight, 1, hessian=hessian, right="ternary", rounds=4)
    measure = OutputError(weight.double(), hessian.double())
    least = np.inf
    for levels in product((-1.0, 0.0, 1.0), repeat=5):
        right = torch.tensor([levels], dtype=torch.float64)
        least = min(least, float(measure.of(measure.best_left(right)[0], right)))
    assert found.error == pytest.approx(least, rel=1e-4)


@pytest.mark.parametrize("measure", ["output", "element"])
def test_best_factors_are_stationary(measure: str) -> None:
    weight, hessian = layer()
    error = (
        OutputError(weight.double(), hessian.double())
        if measure == "output"
        else ElementError(weight.double(), elements().double())
    )
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(ROWS, RANK, generator=generator, dtype=torch.float64)
    right = torch.randn(RANK, COLUMNS, generator=generator, dtype=torch.float64)

    def slope(a: Tensor, b: Tensor, by: int) -> Tensor:
        pair = [a.clone().requires_grad_(True), b.clone().requires_grad_(True)]
        return torch.autograd.grad(error.of(*pair), pair)[by]

    best = error.best_left(right)[0]
    assert float(slope(best, right, 0).abs().max()) < 1e-7
    assert float(slope(left, error.best_right(left), 1).abs().max()) < 1e-7
    rows = right.clone()
    rows[2] = error.best_row(left, right, 2)
    assert float(slope(left, rows, 1)[2].abs().max()) < 1e-7


@pytest.mark.parametrize("name", ["int8", "ternary", "2:4", "int4 2:4"])
def test_improving_never_loses(name: str) -> None:
    form = FactorForm.named(name)
    target, hessian = layer(seed=5)
    target, hessians = target.double(), hessian.double()[None]
    given = formed(torch.randn_like(target), hessians, form)
    found = improved(given, target, hessians, form, (0.3, 0.0))
    assert obeys(found.value, form)
    for row in range(ROWS):
        errors = [
            float((target[row] - f.value[row]) @ hessians[0] @ (target[row] - f.value[row])) for f in (given, found)
        ]
        assert errors[1] <= errors[0] * (1 + 1e-9)


def test_the_same_seed_gives_the_same_factors() -> None:
    weight, hessian = layer()
    found = [annealed_factors(weight, RANK, hessian=hessian, right="ternary", rounds=2, seed=7) for _ in range(2)]
    assert torch.equal(found[0].right.value, found[1].right.value)
    assert found[0].history == found[1].history


def test_bytes_are_those_of_packed_levels() -> None:
    assert FactorForm.named("float").bytes(4, 10) == 160
    assert FactorForm.named("int8").bytes(4, 10) == 40 + 16
    assert FactorForm.named("ternary").bytes(4, 10) == 10 + 16
    assert FactorForm.named("2:4").bytes(4, 10) == (4 * 6 * 32 + 40) // 8
    assert FactorForm.named("int8 2:4").bytes(4, 8) == 16 + 4 + 16


def test_zero_weights_and_dead_inputs_are_no_trouble() -> None:
    weight, hessian = layer()
    assert annealed_factors(torch.zeros_like(weight), 2, hessian=hessian, right="ternary", rounds=1).error == 0.0
    hessian[3] = hessian[:, 3] = 0.0
    found = annealed_factors(weight, 2, hessian=hessian, left="int8", right="ternary", rounds=1)
    assert np.isfinite(found.error)


def test_what_cannot_be_done_is_refused() -> None:
    weight, hessian = layer()
    for rank in (0, ROWS + 1):
        with pytest.raises(SurgeryError, match="rank is"):
            annealed_factors(weight, rank)
    for form in ("int9", "4:2", "binary", "2:4 1:2"):
        with pytest.raises(SurgeryError, match="form"):
            annealed_factors(weight, 2, right=form)
    with pytest.raises(SurgeryError, match="2:4 sparse"):
        annealed_factors(weight, 2, left="2:4")
    with pytest.raises(SurgeryError, match="hessian is"):
        annealed_factors(weight, 2, hessian=hessian[:3])
    with pytest.raises(SurgeryError, match="symmetric"):
        annealed_factors(weight, 2, hessian=torch.randn(COLUMNS, COLUMNS))
    with pytest.raises(SurgeryError, match="one of them"):
        annealed_factors(weight, 2, hessian=hessian, elements=elements())
    with pytest.raises(SurgeryError, match="0 or more"):
        annealed_factors(weight, 2, elements=-elements())
    with pytest.raises(SurgeryError, match="NaN"):
        annealed_factors(weight * float("nan"), 2)
