"""Padding is no data: what a layer is fitted to does not depend on what padded tokens hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coldpress.network import token_mask
from coldpress.surgery.moments import collect_moments
from coldpress.surgery.refit import refit

IDS = torch.tensor([[3, 4, 5, 0], [6, 7, 0, 0], [8, 9, 3, 4]])
MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]])


class Bag(nn.Module):
    """Tokens, two layers, and the mean of the real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.up, self.down = nn.Embedding(10, 4), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        hidden = self.down(torch.relu(self.up(self.words(ids))))
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def test_the_mask_is_found_among_the_inputs() -> None:
    assert torch.equal(token_mask([IDS, MASK]), MASK.bool())
    assert token_mask([IDS]) is None
    assert token_mask([IDS, torch.ones_like(MASK)]) is None  # nothing is padded
    assert token_mask([IDS, 1 - MASK]) is None  # token types, say
    assert token_mask([torch.randn(3, 4), torch.randn(3, 4)]) is None


def padded_otherwise() -> Tensor:
    return torch.where(MASK.bool(), IDS, 9)


def test_moments_are_those_of_real_tokens() -> None:
    torch.manual_seed(0)
    model = Bag()
    found = [collect_moments(model, ["up", "down"], (ids, MASK))["down"] for ids in (IDS, padded_otherwise())]
    assert found[0].rows == int(MASK.sum())
    assert torch.equal(found[0].matrix, found[1].matrix)


def test_the_refit_is_that_of_real_tokens() -> None:
    torch.manual_seed(0)
    teacher, weights = Bag(), []
    for ids in (IDS, padded_otherwise()):
        student = Bag()
        student.load_state_dict(teacher.state_dict())
        with torch.no_grad():
            student.up.weight[0] = 0.0
        refit(student, teacher, (ids, MASK), outputs={}, factored={})
        weights.append(student.down.weight)
    assert not torch.equal(weights[0], teacher.down.weight)
    assert torch.equal(weights[0], weights[1])
