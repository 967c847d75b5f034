"""Padding is no data: what a layer is fitted to does not depend on what padded tokens hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from coldpress.network import token_mask
from coldpress.surgery.moments import collect_moments, sample_positions, wanted_rows
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


def texts(count: int = 200, longest: int = 20) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, longest + 1, (count,), generator=draw)
    mask = (torch.arange(longest) < lengths[:, None]).long()
    return torch.randint(1, 10, (count, longest), generator=draw) * mask, mask


def test_enough_real_tokens_are_looked_at_and_the_first_always() -> None:
    _, mask = texts()
    layer, hidden = nn.Linear(4, 6), torch.zeros(2, 20, 4)
    drawn = [sample_positions(layer, hidden, n, torch.Generator().manual_seed(1), mask) for n in (200, 10**4, 10**6)]
    assert drawn[0].tolist() == list(range(20))  # there are fewer than wanted: all
    assert 1 < len(drawn[1]) < 20
    assert int(mask[:, drawn[1]].sum()) * 50 > 0.9 * wanted_rows(layer)
    assert drawn[2].tolist() == [0]
    assert all(0 in positions.tolist() for positions in drawn)
