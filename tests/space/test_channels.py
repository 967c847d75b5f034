"""A channel that is removed is a channel that is masked, in every group that is offered."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coldpress.errors import SpaceError, SurgeryError
from coldpress.network import first_tensor
from coldpress.plan import ChannelGroup
from coldpress.space import channel_groups
from coldpress.surgery.channels import mask_inputs, remove_channels
from tiny import NETWORKS, build, inputs_of, space_of

PRODUCERS = {
    "padded shortcuts": {"layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1"},
    "projected shortcuts": {"stem.0", "first.conv1", "second.conv1", "second.conv2"},
    "concatenation": {"left.0", "right.0", "join.0"},
    "depthwise and grouped": {"stem.0", "mix.0", "last.0"},
    "squeeze-excite": {"stem.0", "squeeze", "last.0"},
    "flatten": {"features.0.0", "features.2.0", "hidden"},
    "two inputs": {"image.0", "last.0"},
    "tuple": {"stem.0", "last.0"},
    "shuffle": {"last.0"},
    "shared layers": {"stem.0", "widen"},
}


def some(group: ChannelGroup, seed: int) -> np.ndarray:
    """A random half of the group's atoms."""
    atoms = group.channels // group.atom
    chosen = np.random.default_rng(seed).choice(atoms, max(1, atoms // 2), replace=False)
    return np.sort((chosen[:, None] * group.atom + np.arange(group.atom)).ravel())


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_are_all_that_can_be_removed(name: str) -> None:
    groups, _ = channel_groups(build(name), inputs_of(name))
    assert set(groups) == PRODUCERS[name]


@pytest.mark.parametrize("name", NETWORKS)
def test_masked_equals_removed_for_each_group_and_for_all_together(name: str) -> None:
    model, inputs = build(name), inputs_of(name, seed=7)
    groups, _ = channel_groups(model, inputs_of(name))
    removals = [[(group, some(group, i))] for i, group in enumerate(groups.values())]
    for removal in [*removals, [pair for (pair,) in removals]]:
        masked, removed = copy.deepcopy(model), copy.deepcopy(model)
        mask_inputs(masked, removal)
        remove_channels(removed, removal)
        with torch.no_grad():
            wanted, got = first_tensor(masked(*inputs)), first_tensor(removed(*inputs))
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
        assert sum(p.numel() for p in removed.parameters()) < sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_looking_changes_nothing(name: str) -> None:
    model, inputs = build(name), inputs_of(name)
    model.train()
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        wanted = first_tensor(copy.deepcopy(model).eval()(*inputs))
    channel_groups(model, inputs)
    assert model.training
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        assert torch.equal(first_tensor(model.eval()(*inputs)), wanted)


def test_channel_shuffle_is_refused_with_the_reason_and_other_units_stay() -> None:
    model, inputs = build("shuffle"), inputs_of("shuffle")
    space = space_of(model, inputs)
    assert "stem.0" in space.refused
    assert {unit.kind for unit in space.units} >= {"width", "bits"}


def test_ignored_layers_keep_their_outputs() -> None:
    model, inputs = build("concatenation"), inputs_of("concatenation")
    groups, refused = channel_groups(model, inputs, ignored=["left"])
    assert set(groups) == {"right.0", "join.0"}
    assert "ignored" in refused["left.0"]
    with pytest.raises(SpaceError, match=r"'lefft' is not in the model"):
        space_of(model, inputs, ignored=("lefft",))


class Twice(torch.nn.Module):
    """A layer called for every token, and once more behind their mean or, at equal sizes, before it."""

    def __init__(self, equal: bool) -> None:
        super().__init__()
        self.equal = equal
        self.first, self.again = torch.nn.Linear(6, 8), torch.nn.Linear(8, 8)
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.again(self.first(x)))
        return self.head(self.again(x).mean(1) if self.equal else self.again(x.mean(1)))


def test_layers_called_at_two_sizes_are_left_alone() -> None:
    space = space_of(Twice(equal=False), (torch.randn(4, 5, 6),))
    assert all(unit.target != "again" for unit in space.units)
    assert not [unit for unit in space.units if unit.kind == "width"]
    assert "several sizes" in space.refused["first"]


def test_layers_called_twice_at_one_size_are_one_unit() -> None:
    space = space_of(Twice(equal=True), (torch.randn(4, 5, 6),))
    assert [unit.name for unit in space.units if unit.kind == "width"] == ["first:width"]
    assert {site.name: site.shape.calls for site in space.sites} == {"first": 1, "again": 2, "head": 1}


@pytest.mark.parametrize("kept", [[], [-1, 0], [0, 99]])
def test_channels_that_cannot_stay_are_refused(kept: list[int]) -> None:
    model = build("tuple")
    group = channel_groups(model, inputs_of("tuple"))[0]["stem.0"]
    with pytest.raises(SurgeryError, match="0 to 15"):
        remove_channels(model, [(group, np.array(kept, dtype=np.int64))])


def test_groups_of_a_grouped_convolution_are_not_torn_apart() -> None:
    model = build("depthwise and grouped")
    group = channel_groups(model, inputs_of("depthwise and grouped"))[0]["mix.0"]
    assert group.atom == 4
    with pytest.raises(SurgeryError, match="whole groups of 4"):
        remove_channels(model, [(group, np.arange(6))])


def test_attention_that_is_nearly_even_still_goes_by_whole_heads() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))
            self.head = nn.Linear(16, 3)
            for layer in (self.q, self.k):
                nn.init.normal_(layer.weight, std=1e-4)
                nn.init.zeros_(layer.bias)

        def forward(self, x: Tensor) -> Tensor:
            shape = (*x.shape[:2], -1, 4)
            q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.q, self.k, self.v))
            seen = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
            return self.head(self.out(seen.flatten(2)).mean(1))

    torch.manual_seed(0)
    groups, _ = channel_groups(Attention().eval(), (torch.randn(2, 5, 16),))
    assert groups["q"].atom == 4
