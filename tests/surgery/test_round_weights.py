"""Rounding by search: never worse than its start, on the grid, as sparse as asked for, and near the optimum."""

from __future__ import annotations

import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import coldpress as cp
from coldpress.errors import SurgeryError
from coldpress.surgery._levels import Layer, _error, _pairs, _refresh, _Row
from coldpress.surgery.rounding_starts import nearest, one_pass, ordered


def layer(rows: int = 6, columns: int = 24, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Weights, and the second moments of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.eye(columns) + torch.randn(columns, columns, generator=generator) / columns**0.5
    inputs = torch.relu(torch.randn(400, columns, generator=generator) @ mixed)
    return torch.randn(rows, columns, generator=generator), inputs.T @ inputs / 400


def error(weight: Tensor, hessian: Tensor, rounded: Tensor) -> float:
    left = (weight - rounded).double()
    return float(torch.trace(left @ hessian.double() @ left.T))


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("start", ["gptq", "nearest"])
def test_the_search_only_gains_on_its_start(bits: int, start: str) -> None:
    weight, hessian = layer()
    found = cp.round_weights(weight, hessian, bits, start=start, refine_scales=False)
    assert found.error < found.start_error
    assert found.error == pytest.approx(error(weight, hessian, found.dequantized), rel=1e-4)
    begun = cp.round_weights(weight, hessian, bits, start=start, refine_scales=False, sweeps=0)
    assert begun.error == begun.start_error == pytest.approx(found.start_error)


@pytest.mark.parametrize("bits", [2, 4])
def test_weights_are_levels_times_scales(bits: int) -> None:
    weight, hessian = layer()
    found = cp.round_weights(weight, hessian, bits)
    assert found.levels.dtype == torch.int8
    assert int(found.levels.min()) >= -(2 ** (bits - 1))
    assert int(found.levels.max()) <= 2 ** (bits - 1) - 1
    assert found.scales.shape == (6, 1)
    torch.testing.assert_close(found.levels.float() * found.scales, found.dequantized)


@pytest.mark.parametrize("start", ["gptq", "obc"])
def test_an_indefinite_hessian_is_refused(start: str) -> None:
    hessian = torch.eye(4) + 2.0 * (torch.ones(4, 4) - torch.eye(4))
    with pytest.raises(SurgeryError, match=r"indefinite \(eigenvalues -1 to 7\); give X X\^T"):
        cp.round_weights(torch.ones(2, 4), hessian, 4, start=start)


def test_fitted_scales_beat_given_ones_and_the_start_on_them() -> None:
    weight, hessian = layer(12, 48)
    fixed = cp.round_weights(weight, hessian, 3, refine_scales=False)
    fitted = cp.round_weights(weight, hessian, 3)
    assert fitted.start_error == pytest.approx(fixed.start_error)
    assert fitted.error < 0.9 * fixed.error
    again = cp.round_weights(weight, hessian, 3, scales=fitted.scales, refine_scales=False, sweeps=0)
    assert fitted.error < again.error


def test_given_scales_stay() -> None:
    weight, hessian = layer()
    scales = torch.full((6, 1), 0.3)
    found = cp.round_weights(weight, hessian, 4, scales=scales, refine_scales=False)
    assert torch.equal(found.scales, scales)


def test_groups_have_scales_of_their_own() -> None:
    weight, hessian = layer()
    found = cp.round_weights(weight, hessian, 3, group_size=8)
    assert found.scales.shape == (6, 3)
    spread = found.scales.repeat_interleave(8, dim=1)
    torch.testing.assert_close(found.levels.float() * spread, found.dequantized)
    assert found.error < found.start_error


def test_tiny_rows_are_solved_nearly_always() -> None:
    weight, hessian = layer(20, 5)
    scales = torch.full((20, 1), 0.8)
    found = cp.round_weights(weight, hessian, 2, scales=scales, refine_scales=False)
    options = torch.tensor(list(itertools.product(range(-2, 2), repeat=5)), dtype=torch.float64) * 0.8
    left = weight.double()[:, None] - options
    least = torch.einsum("rpi,ij,rpj->rp", left, hessian.double(), left).amin(dim=1)
    mine = weight.double() - found.dequantized.double()
    own = torch.einsum("ri,ij,rj->r", mine, hessian.double(), mine)
    assert bool((own >= least - 1e-6).all())
    assert int((own <= least * 1.0001 + 1e-9).sum()) >= 18


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.75])
def test_as_many_weights_are_zero_as_asked(sparsity: float) -> None:
    weight, hessian = layer(8, 128)
    found = cp.round_weights(weight, hessian, 4, sparsity=sparsity, refine_scales=False)
    assert float((found.levels == 0).float().mean()) >= sparsity - 0.01
    assert found.error < found.start_error


def test_of_each_four_neighbours_two_are_zero() -> None:
    weight, hessian = layer(8, 32)
    found = cp.round_weights(weight, hessian, 4, sparsity="2:4")
    assert int((found.levels.view(8, 8, 4) != 0).sum(dim=2).max()) == 2
    assert found.error < found.start_error


def searched_row(hessian: NDArray[np.float32], weight: list[float], levels: list[int]) -> tuple[Layer, _Row]:
    """A row on the grid of 4 bits and scale 1, with its error and field."""
    count = len(weight)
    shared = Layer(hessian, np.zeros(count, np.int32), np.ones(count, np.bool_), 0, -8, 7)
    own = [np.array(weight, np.float32), np.array(levels, np.int16), np.ones(1, np.float32)]
    row = _Row(*own, *np.zeros((6, count), np.float32))
    _refresh(shared, row)
    return shared, row


def test_a_move_that_gains_alone_is_made_alone() -> None:
    shared, row = searched_row(np.eye(2, dtype=np.float32), [1.0, 0.0], [0, 0])
    _pairs(shared, row)  # any level of the other weight would harm
    assert row.levels.tolist() == [1, 0]
    assert _error(row) == 0.0


def test_moves_of_pairs_never_raise_the_error() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        hessian = (np.eye(12) + 0.1 * np.cov(generator.normal(size=(12, 40)))).astype(np.float32)
        weight, levels = generator.normal(size=12), generator.integers(-2, 3, 12)
        shared, row = searched_row(hessian, weight.tolist(), levels.tolist())
        before = _error(row)
        for _ in range(4):
            _pairs(shared, row)
            assert _error(row) <= before + 1e-5
            before = _error(row)


def test_the_same_seed_gives_the_same_levels() -> None:
    weight, hessian = layer()
    first, second = (cp.round_weights(weight, hessian, 3, seed=5) for _ in range(2))
    assert torch.equal(first.levels, second.levels)
    assert torch.equal(first.scales, second.scales)


def test_columns_that_are_never_fed_do_not_matter() -> None:
    weight, hessian = layer()
    hessian[3], hessian[:, 3] = 0.0, 0.0
    weight[:, 3] = 100.0
    found = cp.round_weights(weight, hessian, 3)
    assert np.isfinite(found.error)
    assert found.error < found.start_error
    assert not found.levels[:, 3].any()
    other = weight.clone()
    other[:, 3] = 0.0
    assert torch.equal(found.levels, cp.round_weights(other, hessian, 3).levels)


@pytest.mark.parametrize("sparsity", [None, 0.5])
def test_columns_that_are_hardly_fed_count_as_never_fed(sparsity: float | None) -> None:
    weight, hessian = layer()
    hessian = hessian.double()
    hessian[3], hessian[:, 3] = 0.0, 0.0
    never = cp.round_weights(weight, hessian, 3, sparsity)
    hessian[3, 3] = 1e-50  # nothing in single precision
    hardly = cp.round_weights(weight, hessian, 3, sparsity)
    assert torch.equal(never.levels, hardly.levels)
    assert not hardly.levels[:, 3].any()


@pytest.mark.parametrize("power", [-400, 400])
def test_the_unit_of_the_inputs_does_not_matter(power: int) -> None:
    weight, hessian = layer()
    one = cp.round_weights(weight, hessian, 3, start="nearest")
    other = cp.round_weights(weight, hessian.double() * 2.0**power, 3, start="nearest")
    assert torch.equal(one.levels, other.levels)
    assert other.error == one.error * 2.0**power


@pytest.mark.parametrize("start", ["gptq", "obc"])
@pytest.mark.parametrize("sparsity", [None, 0.5, "2:4"])
def test_fewer_samples_than_inputs_are_enough(start: str, sparsity: float | str | None) -> None:
    weight, _ = layer()
    inputs = torch.randn(5, 24, generator=torch.Generator().manual_seed(1))
    found = cp.round_weights(weight, inputs.T @ inputs, 4, sparsity, start)
    assert 0 <= found.error < found.start_error
    assert found.dequantized.isfinite().all()
    zeros = (found.levels == 0).double()
    if sparsity == "2:4":
        assert (zeros.view(6, 6, 4).sum(2) >= 2).all()
    elif sparsity is not None:
        assert zeros.mean() >= sparsity


def test_without_correlation_gptq_is_rounding_to_nearest() -> None:
    weight, _ = layer()
    scales = torch.full((6, 1), 0.25)
    diagonal = torch.diag(torch.rand(24, generator=torch.Generator().manual_seed(0)) + 0.1)
    rounded = one_pass(weight, ordered(diagonal, True), scales, -8, 7)
    assert torch.equal(rounded, nearest(weight.double(), scales, -8, 7))


def test_gptq_carries_errors_to_columns_that_are_left() -> None:
    weight, hessian = layer()
    scales = torch.full((6, 1), 0.5)
    carried, plain = one_pass(weight, ordered(hessian, True), scales, -4, 3), nearest(weight, scales, -4, 3)
    assert error(weight, hessian, carried * 0.5) < error(weight, hessian, plain * 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": 1}, "bits is 1; it must be from 2 to 8"),
        ({"bits": 9}, "bits is 9"),
        ({"start": "obq"}, "start is 'obq'; choose gptq, nearest, obc"),
        ({"sparsity": 1.0}, "sparsity is 1.0"),
        ({"sparsity": "4:2"}, "sparsity is '4:2'"),
        ({"sweeps": -1}, "sweeps is -1"),
        ({"group_size": 0}, "group_size is 0"),
        ({"scales": torch.zeros(6, 1)}, "scales are .*finite and above 0"),
        ({"scales": torch.ones(3, 1)}, r"must be \(6, 1\)"),
        ({"weight": torch.zeros(6, 2, 3)}, "flatten a convolution's"),
        ({"weight": torch.full((6, 24), float("nan"))}, "weight holds NaN or Inf"),
        ({"hessian": torch.eye(23)}, r"must be \(24, 24\)"),
        ({"hessian": torch.eye(24).index_fill(0, torch.tensor([1]), 2.0)}, "must be symmetric"),
        ({"hessian": -torch.eye(24)}, "no negative diagonal"),
    ],
)
def test_what_cannot_be_rounded_is_refused(change: dict[str, object], message: str) -> None:
    weight, hessian = layer()
    given: dict[str, object] = {"weight": weight, "hessian": hessian, **change}
    with pytest.raises(SurgeryError, match=message):
        cp.round_weights(**given)  # type: ignore[arg-type]


def test_rows_that_an_executor_shares_out_are_the_same_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(19, 24, generator=generator), torch.randn(24, 96, generator=generator)
    one = cp.round_weights(weight, x @ x.T, bits=3, sparsity=0.5, seed=5)
    with ThreadPoolExecutor(1) as executor:
        other = cp.round_weights(weight, x @ x.T, bits=3, sparsity=0.5, seed=5, executor=executor)
    again = pickle.loads(pickle.dumps(other))
    assert all(torch.equal(a.levels, b.levels) for a, b in ((one, other), (one, again)))
    assert torch.equal(one.scales, other.scales)
    assert torch.equal(one.dequantized, again.dequantized)
    assert one.error == other.error == again.error
