"""Fisher gradients and energy: what finite differences say, channel by channel, and a factor of any rank."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from coldpress.energy.fisher import fisher_energy, fisher_importance, mask_gradients, weight_fisher
from coldpress.errors import TaskError
from coldpress.network import evaluating, logits_of
from coldpress.space import channel_groups
from tiny import build, inputs_of

NAMES = ("padded shortcuts", "concatenation", "depthwise and grouped", "squeeze-excite", "flatten", "shared layers")


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_differences_of_every_reader(name: str) -> None:
    model, inputs = build(name).double(), [tensor.double() for tensor in inputs_of(name, count=3)]
    groups = list(channel_groups(build(name), inputs_of(name))[0].values())
    labels = torch.tensor([0, 3, 1])
    found = mask_gradients(model, inputs, groups, labels, batch_size=2)
    assert found.shape == (3, sum(group.channels for group in groups))

    def losses(group: int, channel: int, scale: float) -> torch.Tensor:
        twin = copy.deepcopy(model)
        for member in groups[group].of_role("in"):
            weight = twin.get_submodule(member.module).get_parameter("weight")
            with torch.no_grad():
                weight[:, torch.from_numpy(member.index[channel])] *= scale
        with evaluating(twin):
            return functional.cross_entropy(logits_of(twin(*inputs)), labels, reduction="none")

    first = 0
    for g, group in enumerate(groups):
        for channel in (0, group.channels - 1):
            slope = (losses(g, channel, 1 + 1e-5) - losses(g, channel, 1 - 1e-5)) / 2e-5
            torch.testing.assert_close(found[:, first + channel], slope.float(), atol=1e-5, rtol=1e-3)
        first += group.channels


def test_the_model_stays_as_it_was() -> None:
    model, inputs = build("concatenation").train(), inputs_of("concatenation")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    groups = list(channel_groups(model, inputs)[0].values())
    first, again = (mask_gradients(model, inputs, groups, seed=3) for _ in range(2))
    assert torch.equal(first, again)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_drawn_labels_give_the_curvature_of_the_divergence() -> None:
    """Over many draws G^T G / N is J^T (diag(p) - p p^T) J, J the change of the logits by the masks."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
    groups = list(channel_groups(net, (torch.randn(1, 3),))[0].values())
    x = torch.randn(2, 3)
    gradients = mask_gradients(net, [x.repeat(10_000, 1)], groups, seed=1, batch_size=4096).numpy().astype(np.float64)
    with torch.no_grad():
        hidden, p = net[1](net[0](x)), net(x).softmax(1)
    expected = np.zeros((8, 8))
    for h, q in zip(hidden, p):
        jacobian = (net[2].weight.detach() * h).numpy()  # (classes, channels)
        metric = torch.diag(q) - torch.outer(q, q)
        expected += jacobian.T @ metric.numpy() @ jacobian / len(x)
    found = gradients.T @ gradients / len(gradients)
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_infinite_outputs_are_refused() -> None:
    model, inputs = build("concatenation"), inputs_of("concatenation")
    groups = list(channel_groups(model, inputs)[0].values())
    with torch.no_grad():
        next(model.parameters()).fill_(float("inf"))
    with pytest.raises(TaskError, match="not finite"):
        mask_gradients(model, inputs, groups)


@pytest.mark.parametrize(("rank", "alpha"), [(20, 1.0), (20, 0.4), (3, 1.0), (3, 0.0)])
def test_single_units_cost_the_same_whatever_rank_and_alpha(rank: int, alpha: float) -> None:
    gradients = np.random.default_rng(0).normal(size=(15, 30))
    full = gradients.T @ gradients / 15
    linear, factor = fisher_energy(gradients, rank, alpha)
    assert factor.shape[1] <= rank
    assert (linear >= 0).all()
    assert linear + 0.5 * np.square(factor).sum(axis=1) == pytest.approx(0.5 * np.diag(full))
    couplings = factor @ factor.T
    if rank >= 15:
        assert couplings == pytest.approx(alpha * full)
    else:
        values = np.sort(np.linalg.eigvalsh(full))[::-1]
        assert np.linalg.eigvalsh(couplings)[::-1][:rank] == pytest.approx(alpha * values[:rank], abs=1e-12)


def test_a_channels_importance_is_its_energy_alone() -> None:
    model, inputs = build("concatenation"), inputs_of("concatenation", count=6)
    groups = list(channel_groups(model, inputs)[0].values())
    found = fisher_importance(model, inputs, groups, seed=3)
    gradients = mask_gradients(model, inputs, groups, seed=3).double().numpy()
    first = 0
    for group in groups:
        own = gradients[:, first : first + group.channels].reshape(6, -1, group.atom).sum(axis=2)
        first += group.channels
        linear, factor = fisher_energy(own)
        np.testing.assert_allclose(found[group.name], linear + 0.5 * np.square(factor).sum(axis=1), rtol=1e-9)


def test_a_weights_fisher_is_the_mean_square_of_the_samples_gradients() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    model[0].weight.requires_grad_(False)
    x, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    found = weight_fisher(model, ["0", "2"], [x], labels)
    assert not model[0].weight.requires_grad
    assert model.training
    step = 1e-6
    with torch.no_grad():
        for name, (i, j) in (("0", (1, 2)), ("2", (2, 3))):
            weight, losses = model.get_submodule(name).weight, []
            for move in (step, -2 * step):
                weight[i, j] += move
                losses.append(functional.cross_entropy(model(x), labels, reduction="none"))
            weight[i, j] += step
            slopes = (losses[0] - losses[1]) / (2 * step)
            assert float(found[name][i, j]) == pytest.approx(float(slopes.square().mean()), rel=1e-6)
