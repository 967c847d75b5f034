"""Which filters can go, and which of them only together."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from coldpress.errors import SpaceError
from coldpress.space.filters import find_filters
from tiny import build, filters_of, inputs_of


def test_behind_padded_shortcuts_inner_filters_alone_can_go() -> None:
    name = "padded shortcuts"
    space = filters_of(build(name), inputs_of(name))
    assert [group.name for group in space.groups] == [f"layer{i}.0.conv1" for i in (1, 2, 3)]
    owners = {layer.name: layer.owner for layer in space.layers}
    assert list(owners["layer1.0.conv1"]) == list(range(16))
    assert (owners["layer1.0.conv2"] == -1).all()
    assert "conv1" in space.refused


def test_filters_of_a_residual_stream_share_their_variables() -> None:
    name = "projected shortcuts"
    space = filters_of(build(name), inputs_of(name))
    owners = {layer.name: layer.owner for layer in space.layers}
    np.testing.assert_array_equal(owners["stem.0"], owners["first.conv2"])
    np.testing.assert_array_equal(owners["second.conv2"], owners["second.downsample.0"])
    assert not set(owners["stem.0"]) & set(owners["first.conv1"])


def test_depthwise_filters_go_with_those_that_feed_them() -> None:
    name = "depthwise and grouped"
    space = filters_of(build(name), inputs_of(name))
    owners = {layer.name: layer.owner for layer in space.layers}
    np.testing.assert_array_equal(owners["depthwise.0"], owners["stem.0"])
    assert list(owners["grouped.0"][:4]) == [owners["mix.0"][0]] * 4  # four channels a group, one variable


def test_ignored_layers_keep_filters_and_floats() -> None:
    net, inputs = build("concatenation"), inputs_of("concatenation")
    task = SimpleNamespace(model=net, example_inputs=inputs, ignored_layers=("left", "head"))
    space = find_filters(task)
    assert [layer.name for layer in space.layers] == ["right.0", "join.0"]
    assert "left.0" in space.refused
    everything = SimpleNamespace(model=net, example_inputs=inputs, ignored_layers=("left", "right", "join", "head"))
    with pytest.raises(SpaceError, match="no layer of this model can be rounded"):
        find_filters(everything)
