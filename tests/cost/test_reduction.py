"""R as a model is the count of bits, for every sample of a small network and for the networks that it is made of."""

from __future__ import annotations

import itertools

import pytest

from coldpress.cost.reduction import reduction_rate
from coldpress.energy.filter_correlation import random_samples
from tiny import NETWORKS, build, chain, filters_of, images, inputs_of


def test_every_sample_saves_what_is_counted() -> None:
    space = filters_of(chain(), images(2), most_bits=4)
    model = reduction_rate(space)
    for x in itertools.product((0, 1), repeat=len(space.variables)):
        sample = space.sample(x)
        assert model.energy(sample) == pytest.approx(space.reduction(sample), abs=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_that_share_their_filters_are_counted_in_every_layer(name: str) -> None:
    space = filters_of(build(name), inputs_of(name))
    model = reduction_rate(space)
    assert model.energy(dict.fromkeys(space.variables, 0)) == 0.0
    for sample in random_samples(space, 5):
        assert model.energy(sample) == pytest.approx(space.reduction(sample), abs=1e-12)
