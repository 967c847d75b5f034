"""Which channels go and what the others become: as least squares says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from coldpress.surgery.leastsquares import Consumer, damped, elimination_order, refit_columns, solve
from coldpress.surgery.moments import second_moments


def correlated(rows: int, columns: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(columns, columns, generator=generator, dtype=torch.float64)
    scale = torch.rand(columns, generator=generator, dtype=torch.float64) * 2 + 0.2
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64) @ mix * scale + 0.5


def consumer(channels: int, repeat: int = 1, outputs: int = 5, seed: int = 0) -> tuple[Consumer, Tensor]:
    inputs = correlated(400, channels * repeat, seed)
    generator = torch.Generator().manual_seed(seed + 100)
    weight = torch.randn(outputs, channels * repeat + 1, generator=generator, dtype=torch.float64)
    index = torch.arange(channels * repeat).reshape(channels, repeat)
    return Consumer(weight, second_moments(inputs).matrix, index), inputs


def error_without(consumers: list[Consumer], gone: list[int]) -> float:
    """Relative output error, summed over consumers, once the other columns are re-fitted."""
    total = 0.0
    for one in consumers:
        assert one.moments is not None
        moments = damped(one.moments)
        stay = torch.ones(one.weight.shape[1], dtype=torch.bool)
        stay[one.index[gone].ravel()] = False
        new = torch.zeros_like(one.weight)
        new[:, stay] = torch.linalg.lstsq(moments[stay][:, stay], (one.weight @ moments[:, stay]).T).solution.T
        change = new - one.weight
        size = ((one.weight @ moments) * one.weight).sum()
        total += float(((change @ moments) * change).sum() / size)
    return total


@pytest.mark.parametrize("atom", [1, 2])
@pytest.mark.parametrize("repeat", [1, 3])
def test_the_first_to_go_is_the_one_brute_force_finds(repeat: int, atom: int) -> None:
    for seed in range(6):
        consumers = [consumer(8, repeat, seed=seed)[0], consumer(8, repeat, outputs=3, seed=seed + 50)[0]]
        order = elimination_order(consumers, 8, atom)
        atoms = [list(range(a * atom, (a + 1) * atom)) for a in range(8 // atom)]
        assert order[:atom] == min(atoms, key=lambda gone: error_without(consumers, gone))


def test_the_order_is_far_better_than_chance_and_near_the_best() -> None:
    worse, near = 0, 0
    for seed in range(5):
        consumers = [consumer(10, 2, seed=seed)[0]]
        order = elimination_order(consumers, 10)
        own = error_without(consumers, order[:5])
        subsets = list(itertools.combinations(range(10), 5))
        errors = np.array([error_without(consumers, list(gone)) for gone in subsets[::4]])
        worse += own <= np.quantile(errors, 0.1)
        near += own <= 1.5 * errors.min()
    assert worse == 5
    assert near >= 4


@pytest.mark.parametrize(("channels", "atom"), [(1, 1), (6, 1), (200, 1), (24, 4)])
def test_every_channel_comes_once_and_atoms_stay_whole(channels: int, atom: int) -> None:
    order = elimination_order([consumer(channels, seed=3)[0]], channels, atom)
    assert sorted(order) == list(range(channels))
    for start in range(0, channels, atom):
        part = order[start : start + atom]
        assert part == list(range(part[0], part[0] + atom))
        assert part[0] % atom == 0


def test_without_moments_the_smallest_columns_go_first() -> None:
    weight = torch.cat([torch.diag(torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64)), torch.zeros(3, 1)], dim=1)
    assert elimination_order([Consumer(weight, None, torch.arange(3)[:, None])], 3) == [1, 2, 0]


def test_a_channel_that_repeats_another_goes_at_no_cost() -> None:
    one, inputs = consumer(6, seed=2)
    inputs[:, 4] = 2 * inputs[:, 1]
    twin = Consumer(one.weight, second_moments(inputs).matrix, one.index)
    order = elimination_order([twin], 6)
    assert order[0] in (1, 4)
    assert error_without([twin], order[:1]) < 1e-3


def test_refitted_columns_are_numpys_least_squares() -> None:
    one, inputs = consumer(8, seed=1)
    kept = torch.tensor([0, 2, 3, 6])
    rows = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
    target = rows @ one.weight.T
    columns = torch.cat([kept, torch.tensor([8])])
    wanted = np.linalg.lstsq(rows[:, columns].numpy(), target.numpy(), rcond=None)[0].T
    moments = rows.T @ rows / len(rows)
    exact = solve(one.weight @ moments[:, columns], moments[columns][:, columns], one.weight[:, columns], 1e-12)
    np.testing.assert_allclose(exact.numpy(), wanted, rtol=1e-6, atol=1e-8)
    damped = refit_columns(one.weight, moments, kept)
    np.testing.assert_allclose(damped.numpy(), wanted, rtol=0.1, atol=0.05)


def test_columns_that_all_stay_stay_as_they_are() -> None:
    one, _ = consumer(8, seed=4)
    assert one.moments is not None
    torch.testing.assert_close(refit_columns(one.weight, one.moments, torch.arange(8)), one.weight)


def test_inputs_that_never_vary_leave_the_given_weights() -> None:
    one, _ = consumer(4, seed=5)
    silent = second_moments(torch.zeros(50, 4)).matrix
    torch.testing.assert_close(refit_columns(one.weight, silent, torch.arange(4)), one.weight, atol=1e-5, rtol=1e-5)
