"""Layers meet where one reads what another wrote, and where two are added up."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coldpress.space.layers import layer_shapes
from coldpress.space.meetings import meetings


class Block(nn.Module):
    """A residual block whose shortcut is a layer too, and a reader of the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
        self.shortcut = nn.Conv2d(4, 4, 1)
        self.after = nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        return self.after(torch.relu(self.branch(x) + self.shortcut(x))).mean((2, 3))


def met(model: nn.Module, x: Tensor) -> set[tuple[str, str]]:
    layers = list(layer_shapes(model.eval(), (x,)))
    return {(layers[i], layers[j]) for i, j in meetings(model, (x,), layers)}


def test_a_chain_meets_in_order() -> None:
    chain = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.Linear(5, 2)
    )
    assert met(chain, torch.randn(2, 3, 4, 4)) == {("0", "4"), ("4", "5")}


def test_both_sides_of_a_sum_meet_and_its_reader_meets_the_last() -> None:
    found = met(Block(), torch.randn(2, 3, 8, 8))
    assert found == {
        ("stem", "branch.0"),
        ("branch.0", "branch.3"),
        ("stem", "shortcut"),
        ("branch.3", "shortcut"),
        ("shortcut", "after"),
    }
