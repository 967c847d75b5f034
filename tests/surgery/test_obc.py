"""Optimal Brain Compression against a reference that solves every least-squares problem anew, and as a start."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import coldpress as cp
from coldpress.errors import SurgeryError
from coldpress.surgery.obc import obc_pruned, obc_rounded
from coldpress.surgery.rounding_starts import damped

LOW, HIGH = -4, 3


def layer(rows: int = 4, columns: int = 7, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Weights, and the second moments of correlated inputs."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.eye(columns) + torch.randn(columns, columns, generator=generator) / columns**0.5
    inputs = torch.relu(torch.randn(200, columns, generator=generator) @ mixed)
    weight = torch.randn(rows, columns, generator=generator)
    return weight.double(), (inputs.T @ inputs / 200).double()


def fitted(weight: Tensor, hessian: Tensor, fixed: dict[int, float]) -> Tensor:
    """The row of least (w - q) H (w - q) whose fixed weights have these values."""
    free = [j for j in range(len(weight)) if j not in fixed]
    row = weight.clone()
    for j, value in fixed.items():
        row[j] = value
    if free:
        held = list(fixed)
        right = hessian[free][:, held] @ (weight[held] - row[held])
        row[free] = weight[free] + torch.linalg.solve(hessian[free][:, free], right)
    return row


def harm(weight: Tensor, hessian: Tensor, row: Tensor) -> float:
    return float((weight - row) @ hessian @ (weight - row))


def next_zero(weight: Tensor, hessian: Tensor, fixed: dict[int, float], allowed: list[int]) -> tuple[int, float]:
    """Which of the weights allowed is best made zero, and the error then."""
    errors = {j: harm(weight, hessian, fitted(weight, hessian, fixed | {j: 0.0})) for j in allowed}
    best = min(errors, key=errors.__getitem__)
    return best, errors[best]


def pruned(weight: Tensor, hessian: Tensor, count: int) -> Tensor:
    """A whole layer: row by row the greedy order, then the cheapest next ones over all rows."""
    orders = []
    for row in weight:
        fixed: dict[int, float] = {}
        errors = [0.0]
        for _ in range(len(row)):
            best, error = next_zero(row, hessian, fixed, [j for j in range(len(row)) if j not in fixed])
            fixed[best] = 0.0
            errors.append(error)
        orders.append((list(fixed), [after - before for before, after in itertools.pairwise(errors)]))
    taken = [0] * len(weight)
    for _ in range(count):
        open_rows = [r for r in range(len(weight)) if taken[r] < weight.shape[1]]
        taken[min(open_rows, key=lambda r: orders[r][1][taken[r]])] += 1
    rows = [fitted(row, hessian, dict.fromkeys(orders[r][0][: taken[r]], 0.0)) for r, row in enumerate(weight)]
    return torch.stack(rows)


def rounded(weight: Tensor, hessian: Tensor, step: float, fixed: dict[int, float]) -> Tensor:
    """One row: always the weight whose rounding costs least, those beyond the grid first."""
    fixed = dict(fixed)
    while len(fixed) < len(weight):
        row = fitted(weight, hessian, fixed)
        free = [j for j in range(len(row)) if j not in fixed]
        values = {j: float((row[j] / step).round().clamp(LOW, HIGH)) * step for j in free}
        beyond = [j for j in free if float((row[j] / step).round()) != round(values[j] / step)]
        if beyond:
            best = max(beyond, key=lambda j: abs(float(row[j]) - values[j]))
        else:
            best = min(free, key=lambda j: harm(weight, hessian, fitted(weight, hessian, fixed | {j: values[j]})))
        fixed[best] = values[best]
    return fitted(weight, hessian, fixed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("step", [0.25, 0.6])
def test_weights_are_rounded_in_the_greedy_order(seed: int, step: float) -> None:
    weight, hessian = layer(seed=seed)
    levels = obc_rounded(weight, hessian, torch.full((4, 1), step), LOW, HIGH)
    reference = torch.stack([rounded(row, damped(hessian), step, {}) for row in weight])
    torch.testing.assert_close(levels * step, reference, atol=1e-9, rtol=0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.0, 0.3, 0.75])
def test_weights_are_pruned_in_the_greedy_order_and_shared_out_among_rows(seed: int, share: float) -> None:
    weight, hessian = layer(seed=seed)
    found = obc_pruned(weight, hessian, share)
    torch.testing.assert_close(found, pruned(weight, damped(hessian), round(share * weight.numel())))
    assert int((found == 0).sum()) == round(share * weight.numel())


def test_pruned_weights_stay_zero_while_the_others_are_rounded() -> None:
    weight, hessian = layer()
    zeros = obc_pruned(weight, hessian, 0.5) == 0
    levels = obc_rounded(weight, hessian, torch.full((4, 1), 0.4), LOW, HIGH, 0.5)
    fixed = [dict.fromkeys(row.nonzero().flatten().tolist(), 0.0) for row in zeros]
    reference = torch.stack([rounded(row, damped(hessian), 0.4, own) for row, own in zip(weight, fixed)])
    torch.testing.assert_close(levels * 0.4, reference, atol=1e-9, rtol=0)


def test_of_each_block_of_neighbours_the_least_harmful_go() -> None:
    weight, hessian = layer(columns=9)
    found = obc_pruned(weight, hessian, (2, 4))
    assert bool(((found[:, :8].reshape(4, 2, 4) == 0).sum(2) == 2).all())
    assert bool(found[:, 8].all())
    for row, mine in zip(weight, found):
        fixed: dict[int, float] = {}
        for _ in range(4):
            full = {b for b in range(2) if sum(j // 4 == b for j in fixed) == 2}
            allowed = [j for j in range(8) if j not in fixed and j // 4 not in full]
            fixed[next_zero(row, damped(hessian), fixed, allowed)[0]] = 0.0
        torch.testing.assert_close(mine, fitted(row, damped(hessian), fixed))


@pytest.mark.parametrize("sparsity", [None, 0.5, "2:4"])
@pytest.mark.parametrize("refine", [False, True])
def test_the_search_never_ends_above_its_start(sparsity: float | str | None, refine: bool) -> None:
    weight, hessian = layer(8, 24)
    found = cp.round_weights(weight, hessian, 3, sparsity, start="obc", refine_scales=refine)
    begun = cp.round_weights(weight, hessian, 3, sparsity, start="obc", sweeps=0)
    assert found.error <= begun.error == begun.start_error == found.start_error
    if sparsity is not None:
        assert int((found.levels == 0).sum()) >= found.levels.numel() // 2


@pytest.mark.parametrize("sparsity", [None, 0.5])
def test_it_is_nearer_than_one_pass(sparsity: float | None) -> None:
    weight, hessian = layer(24, 64)
    errors = [cp.round_weights(weight, hessian, 3, sparsity, start=s, sweeps=0).error for s in ("obc", "gptq")]
    assert errors[0] < 0.95 * errors[1]


def test_columns_that_are_never_fed_do_not_matter() -> None:
    weight, hessian = layer(4, 24)
    hessian[3], hessian[:, 3] = 0.0, 0.0
    weight[:, 3] = 100.0
    assert not cp.round_weights(weight, hessian, 3, start="obc", sweeps=0).levels[:, 3].any()


def test_layers_that_would_take_too_long_are_refused() -> None:
    with pytest.raises(SurgeryError, match="give start 'gptq'"):
        cp.round_weights(torch.zeros(200, 2000), torch.eye(2000), start="obc")
