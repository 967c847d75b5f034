"""Channels without effect go, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from coldpress.network import first_tensor
from coldpress.recovery import Settings, fit, held
from coldpress.space import channel_groups
from coldpress.surgery.dead import extend_masks, remove_dead_channels
from coldpress.surgery.retention import prune_channels
from coldpress.task import Task
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


class Blocks(nn.Module):
    """A residual sum, whose channels have two makers, and a block within."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.first = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.inner, self.second = nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.outer, self.third = nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 3)
        for norm in (self.first, self.second, self.third):  # as trained ones are; at 0 a ReLU lets no gradient through
            nn.init.uniform_(norm.bias, 0.1, 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(self.stem(x)))
        x = x + self.third(self.outer(torch.relu(self.second(self.inner(x)))))
        return self.head(x.relu().mean((2, 3)))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_channels_masked_whole_go_after_training_once_their_shift_is_masked_too(optimizer: str) -> None:
    model, inputs = Blocks(), (torch.randn(2, 1, 6, 6),)
    groups = list(channel_groups(model, inputs)[0].values())
    generator = torch.Generator().manual_seed(1)
    masks = {
        name: torch.rand(model.get_submodule(name).weight.shape, generator=generator) > 0.3
        for name in ("stem", "inner", "outer")
    }
    for mask in masks.values():
        mask.view(len(mask), -1)[:, 0] = True
    masks["stem"][:2], masks["outer"][1:3], masks["inner"][4:7] = False, False, False
    labels = torch.arange(60) % 3
    data = labels.view(-1, 1, 1, 1) - 1.0 + 0.3 * torch.randn(60, 1, 6, 6, generator=generator)
    task = Task(model, inputs[0], train=TensorDataset(data, labels))
    settings = Settings(epochs=2, optimizer=optimizer, lr=0.02, batch_size=16, precision="fp32", device="cpu")  # type: ignore[arg-type]

    def lost_by(given: dict[str, torch.Tensor]) -> int:
        student = copy.deepcopy(model)
        with held(student, given):
            fit(student, task, settings)
        student.eval()
        before = student(data).detach()
        lost = remove_dead_channels(student, groups, inputs)
        torch.testing.assert_close(student(data), before, atol=1e-5, rtol=1e-5)
        assert student.inner.out_channels == 8 - lost.get("inner", 0)
        return sum(lost.values())

    assert lost_by(masks) == 0
    extended = extend_masks(model, groups, masks)
    shifts = ("stem.bias", "outer.bias", "first", "first.bias", "second", "second.bias", "third", "third.bias")
    assert set(extended) == {*masks, *shifts}
    assert extended["second"].tolist() == extended["second.bias"].tolist() == [True] * 4 + [False] * 3 + [True]
    assert (~extended["third.bias"]).nonzero().ravel().tolist() == [1]  # masked whole by both makers
    assert lost_by(extended) == 4


def test_masks_are_extended_by_whole_filters_alone() -> None:
    for name in NETWORKS:
        model, inputs = build(name), inputs_of(name)
        groups = list(channel_groups(model, inputs)[0].values())
        masks = {
            n: torch.rand(m.weight.shape) > 0.5
            for n, m in model.named_modules()
            if isinstance(m, nn.Conv2d | nn.Linear) and m.weight[0].numel() > 60
        }
        extended = extend_masks(model, groups, masks)
        assert all(bool(mask.all()) for name, mask in extended.items() if name not in masks)
