"""Options are what they say: shapes of real layers, widths that divide, ranks that pay."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from coldpress.errors import PlanError, SpaceError
from coldpress.layer_shape import LayerShape
from coldpress.plan import KEEP, ChannelGroup
from coldpress.space import layer_shapes
from coldpress.space.layers import count_macs
from coldpress.space.ranks import rank_options
from coldpress.space.widths import width_options
from tiny import NETWORKS, build, inputs_of, space_of


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_those_of_the_layers(name: str) -> None:
    model, inputs = build(name), inputs_of(name)
    sizes: dict[str, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    for layer, module in layers.items():
        module.register_forward_hook(lambda m, i, o, layer=layer: sizes.update({layer: tuple(o.shape[2:])}))
        module.register_forward_hook(lambda m, i, o, layer=layer: calls.update([layer]))
    shapes = layer_shapes(model, inputs)
    assert set(shapes) == set(layers)
    for layer, shape in shapes.items():
        assert shape.parameters == sum(p.numel() for p in layers[layer].parameters())
        assert shape.bytes == 4 * shape.parameters
        assert shape.macs == calls[layer] * shape.weights * int(np.prod(shape.output_size))
        if shape.kind == "conv":
            assert shape.output_size == sizes[layer]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_a_site_tied_to_the_units_of_its_own_shape(name: str) -> None:
    model, inputs = build(name), inputs_of(name)
    space = space_of(model, inputs)
    assert [site.name for site in space.sites] == list(layer_shapes(model, inputs))
    kept = dict(space.configured({}))
    assert all(kept[site] == site.shape for site in space.sites)
    for unit in space.units:
        assert unit.options[0].label == KEEP
        assert len({option.label for option in unit.options}) == len(unit.options)
        for option in unit.options[1:]:
            changed = dict(space.configured({unit.name: option.label}))
            assert any(changed[site] != site.shape for site in space.sites), (unit.name, option.label)


@given(channels=st.integers(2, 600), atom=st.sampled_from([1, 2, 4, 8, 24]))
@settings(max_examples=60, deadline=None)
def test_widths_are_whole_atoms_below_the_whole_widest_first(channels: int, atom: int) -> None:
    total = channels * atom
    keep, *below = width_options(ChannelGroup("g", total, atom, ()))
    widths = [option.channels or 0 for option in below]
    assert keep.channels == total
    assert widths == sorted(set(widths), reverse=True)
    assert all(0 < width < total and width % atom == 0 for width in widths)


@given(
    inputs=st.integers(1, 300),
    outputs=st.integers(1, 300),
    kernel=st.sampled_from([(1, 1), (3, 3), (5, 5), (1, 3), (7, 1)]),
    linear=st.booleans(),
)
@example(inputs=2, outputs=21, kernel=(5, 5), linear=False)
@settings(max_examples=80, deadline=None)
def test_ranks_save_weights_and_exist(inputs: int, outputs: int, kernel: tuple[int, int], linear: bool) -> None:
    if linear:
        shape = LayerShape("linear", inputs, outputs)
    else:
        shape = LayerShape("conv", inputs, outputs, kernel, padding=(kernel[0] // 2, kernel[1] // 2), input_size=(9, 9))
    for option in rank_options(shape)[1:]:
        factored = LayerShape(**{**shape.__dict__, "method": option.method, "rank": option.rank})
        assert factored.weights <= 0.9 * shape.weights
        assert factored.factors_pay
        assert factored.factors()[-1].output_size == shape.output_size


def test_bits_are_offered_for_each_layer_and_nothing_under_an_ignored_one() -> None:
    model, inputs = build("concatenation"), inputs_of("concatenation")
    space = space_of(model, inputs, "bits", ignored=("join",))
    assert {unit.target for unit in space.units} == {"left.0", "right.0", "head"}


def test_unknown_kinds_and_empty_models_are_explained() -> None:
    with pytest.raises(SpaceError, match="unknown kind of unit 'width2'; there are: width"):
        space_of(build("tuple"), inputs_of("tuple"), "width2")
    with pytest.raises(SpaceError, match="no Conv2d and no Linear"):
        space_of(nn.ReLU(), (torch.zeros(1, 3),))
    with pytest.raises(SpaceError, match="nothing can be decided"):
        space_of(nn.Sequential(nn.Linear(4, 2)), (torch.zeros(1, 4),), "width")
    with pytest.raises(PlanError, match="'3/16'"):
        space_of(build("tuple"), inputs_of("tuple")).options({"stem.0:width": "3/16"})


def test_a_layer_that_is_called_twice_counts_its_work_twice_and_its_bytes_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.last = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.shared(self.shared(self.first(x))).mean((2, 3)))

    inputs = (torch.zeros(2, 3, 8, 8),)
    shared = layer_shapes(Twice(), inputs)["shared"]
    assert shared.calls == 2
    assert shared.macs == 2 * 64 * 9 * 4 * 4
    assert shared.bytes == 4 * (9 * 4 * 4 + 4)
    assert count_macs(Twice(), inputs) == 64 * 9 * (3 * 4 + 2 * 4 * 4) + 12
