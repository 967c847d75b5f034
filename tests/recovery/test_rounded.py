"""Training on a grid: the loss falls, and what comes out is on the grid."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from coldpress.recovery.rounded import rounded
from coldpress.surgery.grid import to_grid
from tiny import chain, images

BITS = {"first": 3, "second": 2}


def test_what_is_trained_on_the_grid_ends_on_it() -> None:
    net, inputs, labels = chain(), images(16)[0], torch.arange(16) % 2
    with rounded(net, BITS) as student:
        optimizer = torch.optim.SGD(student.parameters(), lr=0.2)
        losses = []
        for _ in range(30):
            loss = F.cross_entropy(student(inputs), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        last = F.cross_entropy(student(inputs), labels)
    assert losses[-1] < losses[0]
    assert F.cross_entropy(net(inputs), labels) == last
    for name, bits in BITS.items():
        weight = net.get_submodule(name).get_parameter("weight")
        assert torch.equal(to_grid(weight, bits).weight, weight.detach())
    assert set(dict(net.named_parameters())) == set(dict(chain().named_parameters()))


def test_the_network_is_whole_again_where_training_breaks_off() -> None:
    net = chain()
    with pytest.raises(KeyboardInterrupt), rounded(net, BITS):
        raise KeyboardInterrupt
    assert set(net.state_dict()) == set(chain().state_dict())
