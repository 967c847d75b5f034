"""Moments of grouped convolutions are those of each group's inputs, however many are unfolded at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from coldpress.errors import TaskError
from coldpress.surgery import group_moments
from coldpress.surgery.group_moments import collect_group_moments, group_products
from coldpress.surgery.moments import collect_moments
from coldpress.surgery.round_groups import covariance


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 9, 3, padding=1, stride=2, groups=3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


@pytest.mark.parametrize("most", [1, 40, 1024])
def test_each_group_has_the_moments_of_a_convolution_of_its_own(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(group_moments, "MOST_AT_ONCE", most)
    model, x = Two(), torch.randn(10, 6, 7, 7)
    found = collect_group_moments(model, ["conv"], [x], batch_size=4)["conv"]
    assert found.matrix.shape == (3, 19, 19)
    target, positions = torch.randn(10 * 16, 9), torch.arange(16)
    moments, products = group_products(model.conv, x, positions, target)
    torch.testing.assert_close(moments / found.rows, found.matrix, rtol=1e-5, atol=1e-5)
    for g in range(3):
        alone = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, stride=2))
        own = collect_moments(alone, ["0"], [x[:, 2 * g : 2 * g + 2]])["0"]
        torch.testing.assert_close(found.matrix[g], own.matrix, rtol=1e-5, atol=1e-5)
        windows = nn.functional.unfold(x[:, 2 * g : 2 * g + 2], 3, padding=1, stride=2).transpose(1, 2).reshape(-1, 18)
        wanted = (target[:, 3 * g : 3 * g + 3].T @ windows).double()
        torch.testing.assert_close(products[g][:, :-1], wanted, rtol=1e-4, atol=1e-4)


def test_inputs_that_are_not_finite_are_refused() -> None:
    with pytest.raises(TaskError, match="'conv' hold NaN"):
        collect_group_moments(Two(), ["conv"], [torch.full((2, 6, 7, 7), float("nan"))])


def test_constant_inputs_give_a_definite_covariance() -> None:
    x = torch.full((100, 6, 7, 7), 0.7)
    model = Two()
    model.conv.padding = (0, 0)
    for moments in collect_group_moments(model, ["conv"], [x])["conv"].matrix:
        assert float(torch.linalg.eigvalsh(covariance(moments))[0]) > 0
