"""A sample carried out: what is masked and rounded is what is removed and rounded, and bits are as counted."""

from __future__ import annotations

import pytest
import torch

from coldpress.energy.filter_correlation import random_samples
from coldpress.errors import SamplerError
from coldpress.network import first_tensor, forwarding
from coldpress.surgery.decode import decode, replacements
from coldpress.surgery.grid import to_grid
from tiny import NETWORKS, build, filters_of, inputs_of


@pytest.mark.parametrize("name", NETWORKS)
def test_masked_is_removed(name: str) -> None:
    net, inputs = build(name), inputs_of(name, 4, seed=9)
    space = filters_of(net, inputs)
    sample = random_samples(space, 3)[1]
    decoded = decode(net, space, sample)
    with torch.no_grad():
        removed = first_tensor(decoded.model(*inputs))
        with forwarding(net, replacements(net, space, sample)):
            masked = first_tensor(net(*inputs))
    torch.testing.assert_close(removed, masked, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_filters_are_gone_and_bits_are_counted(name: str) -> None:
    net, inputs = build(name), inputs_of(name)
    space = filters_of(net, inputs)
    sample = random_samples(space, 3)[2]
    decoded, kept = decode(net, space, sample), space.kept(sample)
    assert decoded.plan.kept == kept
    own, left = 0, 0
    for layer in space.layers:
        weight = decoded.model.get_submodule(layer.name).get_parameter("weight")
        bits = decoded.bits[layer.name]
        assert torch.equal(to_grid(weight, bits).weight, weight.detach())
        own += len(weight) * layer.fan_in * bits  # the published count: a filter's own weights, all inputs there
        left += weight.numel() * bits
    assert 1 - own / decoded.original_bits == pytest.approx(space.reduction(sample))
    assert decoded.weight_bits == left <= own


def test_nothing_gone_is_the_network_at_its_most_bits() -> None:
    net, inputs = build("concatenation"), inputs_of("concatenation")
    space = filters_of(net, inputs)
    decoded = decode(net, space, dict.fromkeys(space.variables, 0))
    assert set(decoded.bits.values()) == {8}
    assert decoded.weight_bits == decoded.original_bits
    assert not decoded.plan.structure


def test_with_calibration_the_other_weights_make_up_for_what_went() -> None:
    name = "padded shortcuts"
    net, inputs = build(name), inputs_of(name, 64)
    space = filters_of(net, inputs)
    sample = space.encode([i % 3 == 0 for i in range(len(space.filters))], [0] * len(space.layers))
    test = inputs_of(name, 16, seed=7)
    errors = []
    with torch.no_grad():
        for calibration in (None, inputs):
            errors.append(float((decode(net, space, sample, calibration).model(*test) - net(*test)).square().mean()))
    assert errors[1] < 0.5 * errors[0]


def test_samples_that_leave_nothing_are_refused() -> None:
    net, inputs = build("concatenation"), inputs_of("concatenation")
    space = filters_of(net, inputs)
    with pytest.raises(SamplerError, match=r"all filters of 'left\.0' go"):
        decode(net, space, dict.fromkeys(space.variables, 1))
