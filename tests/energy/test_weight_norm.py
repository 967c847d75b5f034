"""The published formula, term by term, against its model for every sample of a small network."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from coldpress.energy.bit_codes import fitted_harm
from coldpress.energy.weight_norm import rounding_loss, weight_norm
from coldpress.errors import SamplerError
from coldpress.surgery.grid import to_grid
from tiny import build, chain, filters_of, images, inputs_of


def test_the_model_is_the_formula_for_every_sample() -> None:
    net, beta, gamma = chain(), 0.7, 1.3
    space = filters_of(net, images(2), most_bits=5)  # two bits a layer: L_q needs no fit
    model = weight_norm(net, space, beta, gamma)
    assert len(space.variables) == 5 + 3 * 2
    for x in itertools.product((0, 1), repeat=len(space.variables)):
        sample = space.sample(x)
        expected = -gamma * space.reduction(sample)
        for layer, gone in (("first", x[:3]), ("second", x[3:5])):
            norms = net.get_submodule(layer).get_parameter("weight").detach().flatten(1).abs().mean(1)
            expected += float(sum(n * p for n, p in zip(norms, gone))) ** 2
        for layer, bits in space.bits(sample).items():
            weight = net.get_submodule(layer).get_parameter("weight").detach()
            lost = [float((weight - to_grid(weight, b).weight).flatten(1).abs().mean(1).sum()) ** 2 for b in (bits, 5)]
            expected += beta * (lost[0] - lost[1])
        assert model.energy(sample) == pytest.approx(expected, rel=0.02, abs=1e-6)


def test_three_bits_a_layer_cost_what_their_fit_says() -> None:
    net = chain()
    space = filters_of(net, images(2))
    model = weight_norm(net, space, 2.0)
    for n, layer in enumerate(space.layers):
        harm = 2.0 * fitted_harm(space, rounding_loss(net, space, layer.name))
        lost = rounding_loss(net, space, layer.name)
        assert model.energy(space.encode([0] * 5, [6 * (m == n) for m in range(3)])) == pytest.approx(
            2.0 * (lost[6] - lost[0]), rel=0.02
        )
        for code in space.codes:
            x = np.zeros(len(space.variables))
            x[space.bit(n) : space.bit(n) + 3] = code
            assert model.energy(space.sample(x)) == pytest.approx(code @ harm @ code)


def test_filters_that_only_go_together_add_their_norms_in_each_layer() -> None:
    net = build("projected shortcuts")
    space = filters_of(net, inputs_of("projected shortcuts"))
    model = weight_norm(net, space)
    shared = next(g for g, group in enumerate(space.groups) if len(group.of_role("out")) > 1)
    first = space.filters.index((shared, 0))
    expected = 0.0
    for member in space.groups[shared].of_role("out"):
        rows = net.get_submodule(member.module).get_parameter("weight").detach().flatten(1).abs().mean(1)
        expected += float(rows[torch.from_numpy(member.index[0])].sum()) ** 2
    assert model.linear[space.variables[first]] == pytest.approx(expected, rel=1e-6)


def test_layers_of_too_many_filters_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coldpress.binary.MOST_COUPLINGS", 3)
    net = chain()
    with pytest.raises(SamplerError, match="at most 3 are built"):
        weight_norm(net, filters_of(net, images(2)))
