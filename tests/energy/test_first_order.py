"""Changes by going and by rounding are the loss's derivatives; Taylor and Fisher energies are made of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from coldpress.energy.first_order import first_order_changes, rounding_changes
from coldpress.energy.fisher import mask_gradients
from coldpress.energy.taylor import fisher, taylor
from coldpress.network import first_tensor
from coldpress.surgery.grid import to_grid
from tiny import NETWORKS, build, chain, filters_of, images, inputs_of


@pytest.mark.parametrize("name", NETWORKS)
def test_rounding_changes_are_derivatives_along_what_rounding_does(name: str) -> None:
    net, inputs = build(name), inputs_of(name, 3)
    space = filters_of(net, inputs)
    labels, step = torch.tensor([0, 3, 1]), 1e-4
    found = rounding_changes(net, space, inputs, labels, batch_size=2)
    for n in (0, len(space.layers) // 2, len(space.layers) - 1):
        for lost in (1, 6):
            moved = []
            for sign in (1, -1):
                other = build(name).double()
                weight = other.get_submodule(space.layers[n].name).get_parameter("weight")
                with torch.no_grad():
                    weight += sign * step * (to_grid(weight, 8 - lost).weight - weight)
                    outputs = first_tensor(other(*[tensor.double() for tensor in inputs]))
                moved.append(F.cross_entropy(outputs, labels, reduction="none"))
            expected = ((moved[0] - moved[1]) / (2 * step)).float()
            torch.testing.assert_close(found[:, n, lost], expected, rtol=2e-2, atol=1e-4)


def test_filters_change_by_less_of_their_channels_gradients() -> None:
    net, inputs = build("depthwise and grouped"), inputs_of("depthwise and grouped", 4)
    space = filters_of(net, inputs)
    assert any(group.atom > 1 for group in space.groups)
    found = first_order_changes(net, space, inputs, torch.zeros(4, dtype=torch.long))
    assert found.filters.shape == (4, len(space.filters))
    assert found.layers.shape == (4, len(space.layers), 7)
    channels = mask_gradients(net, inputs, space.groups, torch.zeros(4, dtype=torch.long))
    assert found.filters.sum() == pytest.approx(-float(channels.sum()), rel=1e-4)


def test_fisher_is_half_the_mean_square_of_all_that_changes_together() -> None:
    net, inputs = chain(), images(6)
    space = filters_of(net, inputs)
    found = first_order_changes(net, space, inputs)
    model = fisher(space, found)
    for gone in itertools.product((0, 1), repeat=5):
        together = found.filters @ np.array(gone)
        sample = space.encode(gone, [0, 0, 0])
        assert model.energy(sample) == pytest.approx(0.5 * np.square(together).mean(), abs=1e-12)
    whole, none = 0.5 * np.square(found.layers[:, 0, [6, 0]]).mean(axis=0)
    assert model.energy(space.encode([0] * 5, [6, 0, 0])) == pytest.approx(whole - none, rel=0.02)


def test_taylor_adds_up_what_each_one_changes() -> None:
    net, inputs = chain(), images(6)
    space = filters_of(net, inputs, most_bits=4)
    found = first_order_changes(net, space, inputs)
    model = taylor(space, found)
    filters, layers = np.abs(found.filters).mean(0), np.abs(found.layers).mean(0)
    sample = space.encode([1, 0, 0, 0, 1], [0, 2, 0])
    expected = filters[[0, 4]].sum() + layers[1, 2] - layers[1, 0]
    assert model.energy(sample) == pytest.approx(expected, rel=0.02)
