"""Muon steps on the weights themselves, whatever order their memory is in."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from coldpress.recovery.muon import MuonSGD


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(32, 4))


def loss(model: nn.Module) -> Tensor:
    torch.manual_seed(1)
    return nn.functional.cross_entropy(model(torch.randn(16, 3, 4, 4)), torch.randint(0, 4, (16,)))


def trained(model: nn.Module, steps: int, optimizer: MuonSGD | None = None) -> tuple[nn.Module, MuonSGD]:
    optimizer = optimizer or MuonSGD(model, lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    return model, optimizer


def test_training_lowers_the_loss_and_moves_every_parameter() -> None:
    model = network()
    before, start = copy.deepcopy(model), loss(model).item()
    trained(model, 20)
    assert loss(model).item() < 0.5 * start
    assert all(not torch.equal(p, q) for p, q in zip(model.parameters(), before.parameters()))


def test_channels_last_learns_the_same() -> None:
    plain, _ = trained(network(), 3)
    last, _ = trained(network().to(memory_format=torch.channels_last), 3)
    assert all(torch.allclose(p, q, atol=2e-2) for p, q in zip(plain.parameters(), last.parameters()))


def test_a_step_is_orthogonal_and_as_long_as_the_learning_rate() -> None:
    model = nn.Linear(6, 6, bias=False)
    before = model.weight.detach().clone()
    optimizer = MuonSGD(model, lr=0.1)
    model.weight.grad = torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0, 3.0]))
    optimizer.step()
    sizes = torch.linalg.svdvals(model.weight.detach() - before)
    assert sizes.min() > 0.05
    assert sizes.max() < 0.13


def test_a_resumed_run_ends_where_the_whole_one_does() -> None:
    whole, _ = trained(network(), 6)
    half, optimizer = trained(network(), 3)
    resumed = network()
    resumed.load_state_dict(half.state_dict())
    again = MuonSGD(resumed, lr=0.02)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    trained(resumed, 3, again)
    for p, q in zip(resumed.parameters(), whole.parameters()):
        assert p.detach().numpy() == pytest.approx(q.detach().numpy(), abs=1e-6)
