"""Gradients by masks are those of masks: finite differences say so, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from coldpress.energy.fisher import mask_gradients
from coldpress.errors import TaskError
from coldpress.network import first_tensor
from tiny import NETWORKS, build, filters_of, inputs_of

STEP = 1e-5


def losses(net: nn.Module, inputs: tuple[Tensor, ...], labels: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(first_tensor(net(*inputs)), labels, reduction="none")


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_finite_differences(name: str) -> None:
    net, inputs = build(name), inputs_of(name, 3)
    groups = filters_of(net, inputs).groups
    net, inputs = net.double(), tuple(tensor.double() for tensor in inputs)
    labels = torch.tensor([0, 3, 1])
    found = mask_gradients(net, inputs, groups, labels, batch_size=2)
    assert found.shape == (3, sum(group.channels for group in groups))
    first = 0
    for group in groups:
        for channel in (0, group.channels - 1):
            scaled = []
            for sign in (1, -1):
                other = build(name).double()
                with torch.no_grad():
                    for member in group.of_role("in"):
                        columns = torch.from_numpy(member.index[channel])
                        other.get_submodule(member.module).get_parameter("weight")[:, columns] *= 1 + sign * STEP
                scaled.append(losses(other, inputs, labels))
            expected = (scaled[0] - scaled[1]) / (2 * STEP)
            torch.testing.assert_close(found[:, first + channel].double(), expected, rtol=1e-3, atol=1e-6)
        first += group.channels


def test_labels_are_drawn_by_the_seed_from_the_network_itself() -> None:
    net, inputs = build("concatenation"), inputs_of("concatenation", 8)
    groups = filters_of(net, inputs).groups
    one, same, other = (mask_gradients(net, inputs, groups, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_networks_that_give_nan_are_refused() -> None:
    net, inputs = build("concatenation"), inputs_of("concatenation", 4)
    groups = filters_of(net, inputs).groups
    with torch.no_grad():
        net.get_parameter("head.bias")[0] = np.nan
    with pytest.raises(TaskError, match="not finite"):
        mask_gradients(net, inputs, groups)
