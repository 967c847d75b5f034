"""Retention pruning: the sparsity that was asked for, whatever is entangled; neighbours alone go along."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from coldpress.errors import SurgeryError
from coldpress.network import evaluating, logits_of
from coldpress.plan import ChannelGroup
from coldpress.space import channel_groups
from coldpress.surgery.channels import remove_channels
from coldpress.surgery.retention import atom_importance, log_retention, prune_channels, prune_weights
from tiny import build, inputs_of


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 7, 3), nn.Conv2d(7, 5, (1, 3)), nn.Flatten(), nn.Linear(11, 13))


def groups_of(name: str) -> tuple[nn.Module, list[ChannelGroup]]:
    model = build(name)
    return model, list(channel_groups(model, inputs_of(name))[0].values())


def zeros(mask: Tensor) -> int:
    return int((~mask).sum())


@settings(max_examples=40, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 4), st.integers(0, 99))
def test_sparsity_is_met_to_a_weight(sparsity: float, entanglement: float, stages: int, seed: int) -> None:
    model = network(seed)
    found = prune_weights(model, sparsity, entanglement=entanglement, stages=stages, seed=seed)
    gone = {name: zeros(mask) for name, mask in found.masks.items()}
    assert found.gone == sum(gone.values())
    assert abs(found.gone - sparsity * found.units) <= 0.5 + 1e-6
    assert all(abs(n - sparsity * found.masks[name].numel()) <= 1 + 1e-6 for name, n in gone.items())
    for name, mask in found.masks.items():
        assert mask.dtype is torch.bool
        assert mask.shape == model.get_submodule(name).get_parameter("weight").shape


@pytest.mark.parametrize("entanglement", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("value", [0.0, 0.25])
def test_constant_layers_are_cut_at_random(value: float, entanglement: float) -> None:
    layer = nn.Linear(50, 40)
    nn.init.constant_(layer.weight, value)
    masks = [prune_weights(layer, 0.3, entanglement=entanglement, stages=2, seed=seed).masks[""] for seed in (0, 1, 0)]
    assert all(zeros(mask) == 600 for mask in masks)
    assert not torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])
    # no row is spared, as it would be if ties were cut in their order
    assert bool((~masks[0]).any(1).all())


@pytest.mark.parametrize("stages", [1, 3])
def test_without_entanglement_the_smallest_go(stages: int) -> None:
    model = network()
    found = prune_weights(model, 0.4, stages=stages)
    for name, mask in found.masks.items():
        size = model.get_submodule(name).get_parameter("weight").detach().abs()
        assert float(size[~mask].max()) <= float(size[mask].min())
        assert len(found.thresholds[name]) == stages


def test_large_weights_do_not_underflow() -> None:
    """exp(-300) is 0 in single precision, and so would be nearly every P of this layer."""
    layer = nn.Linear(100, 30)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(3000.0).reshape(30, 100) + 1)
    mask = prune_weights(layer, 0.5).masks[""]
    assert bool(mask[15:].all())
    assert zeros(mask) == 1500
    small = nn.Linear(100, 30)
    with torch.no_grad():
        small.weight.copy_(layer.weight * 1e-12)  # here every P is the same in single precision
    assert torch.equal(prune_weights(small, 0.5).masks[""], mask)


def test_lambda_is_the_largest_probability_that_goes() -> None:
    layer = nn.Linear(9, 8)
    found = prune_weights(layer, 0.25, entanglement=0.0)
    logs = log_retention(layer.weight.detach().abs())
    assert float(logs.exp().sum()) == pytest.approx(1.0)
    assert found.thresholds[""] == (pytest.approx(float(logs[~found.masks[""]].max())),)


def neighbours(place: tuple[int, ...], shape: tuple[int, ...]) -> set[tuple[int, ...]]:
    steps = [(axis, step) for axis, step in product(range(len(shape)), (-1, 1))]
    moved = [tuple(p + step * (a == axis) for a, p in enumerate(place)) for axis, step in steps]
    return {p for p in moved if all(0 <= x < n for x, n in zip(p, shape))}


@pytest.mark.parametrize("seed", range(4))
def test_full_entanglement_takes_just_the_neighbours(seed: int) -> None:
    """With probability 1 nothing is left to chance: seeds in order of size with all their neighbours, brute force."""
    torch.manual_seed(seed)
    layer = nn.Conv2d(4, 5, 3)
    size = layer.weight.detach().abs()
    for count in (1, 20, 77, 150):
        mask = prune_weights(layer, count / size.numel(), entanglement=1.0).masks[""]
        gone: set[tuple[int, ...]] = set()
        order = [tuple(int(i) for i in np.unravel_index(n, size.shape)) for n in size.flatten().argsort().tolist()]
        seeds = iter(order)
        last: set[tuple[int, ...]] = set()
        while len(gone | last) < count:
            gone |= last
            place = next(seeds)
            last = {place, *neighbours(place, tuple(size.shape))}
        found = {tuple(p) for p in (~mask).nonzero().tolist()}
        assert len(found) == count
        assert gone <= found <= gone | last
        assert place in found


def test_entanglement_takes_its_share_of_neighbours() -> None:
    """A matrix of two values: all small weights are seeds or entangled, large ones go only beside a small one."""
    layer = nn.Linear(400, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(2.0)
        layer.weight[0, ::4] = torch.linspace(0.1, 0.2, 100)
    mask = prune_weights(layer, 0.5, entanglement=0.75, seed=3).masks[""][0]
    assert not bool(mask[0:320:4].all())
    large = (~mask).nonzero().ravel() % 4
    assert int((large == 2).sum()) == 0  # two away from any small one
    taken = int(((large == 1) | (large == 3)).sum())
    seeds = int((large == 0).sum())
    assert taken / (2 * seeds) == pytest.approx(0.75, abs=0.1)


@pytest.mark.parametrize("sparsity", [0.0, 1.0])
def test_nothing_or_everything_goes(sparsity: float) -> None:
    found = prune_weights(network(), sparsity, entanglement=0.5, stages=3)
    assert found.sparsity == sparsity
    assert all(bool(mask.any()) == (sparsity == 0) for mask in found.masks.values())
    model, groups = groups_of("concatenation")
    channels = prune_channels(model, groups, sparsity)
    assert channels.sparsity == sparsity
    assert all(len(kept) == (0 if sparsity else group.channels) for kept, group in zip(channels.kept.values(), groups))


def test_layers_may_have_sparsities_of_their_own() -> None:
    found = prune_weights(network(), {"0": 1.0, "3": 0.0}, entanglement=0.9)
    assert set(found.masks) == {"0", "3"}
    assert not found.masks["0"].any()
    assert found.masks["3"].all()


@pytest.mark.parametrize("name", ["padded shortcuts", "concatenation", "depthwise and grouped", "flatten"])
@pytest.mark.parametrize("entanglement", [0.0, 0.6])
def test_masked_channels_equal_removed_ones(name: str, entanglement: float) -> None:
    model, groups = groups_of(name)
    found = prune_channels(model, groups, 0.5, entanglement=entanglement, stages=2, seed=1)
    atoms = sum(group.channels // group.atom for group in groups)
    assert abs(found.gone - 0.5 * atoms) <= 0.5
    assert atoms == found.units
    masked, removed, inputs = build(name), build(name), inputs_of(name)
    with torch.no_grad():
        for module, mask in found.masks.items():
            masked.get_submodule(module).get_parameter("weight").mul_(mask)
    remove_channels(removed, [(group, np.array(found.kept[group.name])) for group in groups])
    with evaluating(masked), evaluating(removed):
        torch.testing.assert_close(logits_of(masked(*inputs)), logits_of(removed(*inputs)), atol=1e-5, rtol=1e-4)


def test_the_least_important_channels_go() -> None:
    model, groups = groups_of("concatenation")
    found = prune_channels(model, groups, 0.5)
    for group in groups:
        importance = atom_importance(model, group)
        kept = torch.zeros(group.channels, dtype=torch.bool)
        kept[list(found.kept[group.name])] = True
        assert float(importance[~kept].max()) <= float(importance[kept].min())


def test_a_given_importance_decides() -> None:
    model, groups = groups_of("concatenation")
    first = groups[0]
    asked = torch.arange(first.channels // first.atom, 0, -1)
    found = prune_channels(model, [first], 0.5, importance={first.name: asked})
    assert found.kept[first.name] == tuple(range(first.channels // 2))
    for wrong in ({"none": asked}, {first.name: asked[1:]}, {first.name: asked * float("nan")}):
        with pytest.raises(SurgeryError, match="one for each atom"):
            prune_channels(model, [first], 0.5, importance=wrong)


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_channels_of_one_importance_are_cut_at_random(value: float) -> None:
    model, groups = groups_of("concatenation")
    group = max(groups, key=lambda own: own.channels)
    same = {group.name: torch.full((group.channels // group.atom,), value)}
    kept = [
        prune_channels(model, [group], 0.5, importance=same, entanglement=0.4, stages=2, seed=seed).kept[group.name]
        for seed in (0, 1, 0)
    ]
    assert all(len(own) == group.channels // 2 for own in kept)
    assert kept[0] == kept[2] != kept[1]


def test_what_cannot_be_done_is_refused() -> None:
    model = network()
    for sparsity in (-0.1, 1.1, float("nan")):
        with pytest.raises(SurgeryError, match="in \\[0, 1\\]"):
            prune_weights(model, sparsity)
    for entanglement in (-0.1, 1.5, float("nan")):
        with pytest.raises(SurgeryError, match="probability"):
            prune_weights(model, 0.5, entanglement=entanglement)
    with pytest.raises(SurgeryError, match="stages"):
        prune_weights(model, 0.5, stages=0)
    with pytest.raises(SurgeryError, match="'2' is no Conv2d or Linear"):
        prune_weights(model, {"2": 0.5})
    with pytest.raises(SurgeryError, match="nothing to prune"):
        prune_weights(nn.ReLU(), 0.5)
    with torch.no_grad():
        model.get_submodule("3").get_parameter("weight")[0, 0] = float("nan")
    with pytest.raises(SurgeryError, match="NaN"):
        prune_weights(model, 0.5)
