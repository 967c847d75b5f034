"""Codes of bits, names of variables, and samples that do not fit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldpress.errors import SamplerError, SpaceError
from coldpress.filters import FEWEST, LEAST_BITS, FilterLayer, FilterSpace
from coldpress.plan import ChannelGroup


def two_layers(most_bits: int = 8, least_bits: int = 2) -> FilterSpace:
    """A layer of four filters in two pairs that go together, and one whose filters stay."""
    pairs = ChannelGroup("a", 4, 2, ())
    layers = (FilterLayer("a", 9, np.array([0, 0, 1, 1])), FilterLayer("b", 5, np.full(3, -1)))
    return FilterSpace(layers, (pairs,), most_bits, least_bits)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 7), st.integers(3, 8))
def test_every_number_of_bits_has_a_code_and_none_is_below_the_fewest(least: int, most: int) -> None:
    if least >= most:
        with pytest.raises(SpaceError, match="least_bits"):
            two_layers(most, least)
        return
    space = two_layers(most, least)
    lost = {int(code @ np.array(space.steps)) for code in space.codes}
    assert lost == set(range(most - least + 1))
    for removed in lost:
        assert list(space.removed(space.encode([0, 0], [removed, 0]))) == [removed, 0]


def test_steps_are_powers_of_two_but_for_the_last() -> None:
    assert two_layers().steps == (1, 2, 3)
    assert two_layers(8, LEAST_BITS["binary"]).steps == (1, 2)  # to the letter of the published code
    assert 8 - sum((1, 2, 4)) < FEWEST  # so it has no third step


def test_variables_name_layers_filters_and_bits() -> None:
    space = two_layers(4, 2)
    assert space.variables == ("a:filter0", "a:filter1", "a:bit0", "a:bit1", "b:bit0", "b:bit1")
    assert space.keep_one == (("a:filter0", "a:filter1"),)
    assert space.variables[space.bit(1, 1)] == "b:bit1"


def test_a_sample_says_what_stays_and_how_many_bits_are_left() -> None:
    space = two_layers()
    sample = space.encode([0, 1], [3, 6])
    assert space.kept(sample) == {"a": (0, 1)}
    assert space.bits(sample) == {"a": 5, "b": 2}
    assert space.reduction(sample) == pytest.approx(1 - (18 * 5 + 15 * 2) / (51 * 8))


def test_reduction_never_falls_when_a_variable_becomes_one() -> None:
    space = two_layers()
    for x in itertools.product((0, 1), repeat=len(space.variables)):
        here = space.reduction(space.sample(x))
        for v in np.flatnonzero(np.array(x) == 0):
            more = list(x)
            more[v] = 1
            assert space.reduction(space.sample(more)) > here - 1e-12


def test_samples_that_do_not_fit_are_refused() -> None:
    space = two_layers()
    sample = space.encode([0, 0], [0, 0])
    with pytest.raises(SamplerError, match="'a:bit0' for one"):
        space.vector({name: value for name, value in sample.items() if name != "a:bit0"})
    with pytest.raises(SamplerError, match="'z' for one"):
        space.vector(sample | {"z": 0})
    with pytest.raises(SamplerError, match="other than 0 and 1"):
        space.vector(sample | {"a:bit0": -1})
    with pytest.raises(SamplerError, match="all filters of 'a' go"):
        space.kept(space.encode([1, 1], [0, 0]))
