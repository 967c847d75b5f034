"""Channels without effect go, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from coldpress.network import first_tensor
from coldpress.space import channel_groups
from coldpress.surgery.dead import remove_dead_channels
from coldpress.surgery.retention import prune_channels
from tiny import NETWORKS, build, inputs_of


@pytest.mark.parametrize("name", NETWORKS)
def test_masked_channels_go_and_the_outputs_stay(name: str) -> None:
    model, inputs = build(name), inputs_of(name)
    groups = list(channel_groups(model, inputs)[0].values())
    if not groups:
        pytest.skip("no channels of this network can go")
    assert remove_dead_channels(copy.deepcopy(model), groups, inputs) == {}
    found = prune_channels(model, groups, 0.5)
    for module, mask in found.masks.items():
        model.get_submodule(module).get_parameter("weight").data.masked_fill_(~mask, 0.0)
    before = first_tensor(model(*inputs)).detach()
    lost = remove_dead_channels(model, groups, inputs)
    wanted = {group.name: group.channels - len(found.kept[group.name]) for group in groups}
    assert lost == {group: count for group, count in wanted.items() if count}
    torch.testing.assert_close(first_tensor(model(*inputs)), before, atol=1e-5, rtol=1e-5)


def test_a_constant_stays_and_a_zero_goes() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    inputs = (torch.randn(2, 3, 8, 8),)
    with torch.no_grad():
        model[0].weight[:2] = 0.0
        model[1].bias[0] = 0.5  # a filter of zeros, but a constant behind it
    model.eval()
    before = model(*inputs).detach()
    groups = list(channel_groups(model, inputs)[0].values())
    assert remove_dead_channels(model, groups, inputs) == {"0": 1}
    assert model[0].weight.shape[0] == 7
    torch.testing.assert_close(model(*inputs), before, atol=1e-5, rtol=1e-5)


def test_one_channel_is_left_where_all_are_dead() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    inputs = (torch.randn(2, 6),)
    with torch.no_grad():
        model[2].weight.zero_()
    groups = list(channel_groups(model, inputs)[0].values())
    assert remove_dead_channels(model, groups, inputs) == {"0": 7}
    torch.testing.assert_close(model(*inputs), model[2].bias.expand(2, 3))


def test_what_a_function_makes_of_zero_is_no_zero() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Sigmoid(), nn.Linear(8, 3)).eval()
    inputs = (torch.randn(2, 6),)
    with torch.no_grad():
        model[0].weight[:3], model[0].bias[:3] = 0.0, 0.0
        model[2].weight[:, 7] = 0.0
    before = model(*inputs).detach()
    groups = list(channel_groups(model, inputs)[0].values())
    assert remove_dead_channels(model, groups, inputs) == {"0": 1}
    torch.testing.assert_close(model(*inputs), before, atol=1e-6, rtol=1e-6)
