"""The table measures, remembers, interpolates; the cost refuses what does not pay."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldpress.cost import LatencyTable, cache_folder, calibrate, latency_cost, shapes_of
from coldpress.cost.bench import layer_seconds, switch_seconds
from coldpress.cost.grid import key, ordered, shape_of
from coldpress.cost.interpolate import Family
from coldpress.cost.latency import int8_pays
from coldpress.layer_shape import LayerShape
from coldpress.plan import Option, Site, Space, Unit

from .spaces import block_space, conv


def test_every_kind_of_layer_is_found_in_the_profile() -> None:
    plain = conv(16, 16)
    shapes = [
        plain,
        replace(plain, stride=(2, 2)),
        replace(plain, groups=16),
        conv(3, 5),
        conv(16, 32, kernel=1),
        LayerShape("linear", 32, 10),
        LayerShape("linear", 32, 10, input_size=(7, 1)),
    ]
    linear = [replace(shape, bits=8, dynamic=True) for shape in shapes if shape.kind == "linear"]
    shapes += [*(replace(shape, bits=8) for shape in shapes), *linear]
    times = layer_seconds(shapes, repeats=3)
    assert np.isfinite(times).all()
    assert min(times) > 0
    assert switch_seconds(16, (4, 4), repeats=3) >= 0


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> LatencyTable:
    found = LatencyTable(tmp_path_factory.mktemp("table"))
    assert found.measure(shapes_of(block_space())) == len(found) > 0
    return found


def test_a_table_is_measured_once_and_read_back(table: LatencyTable) -> None:
    again = LatencyTable(table.path.parent)
    assert again.measure(shapes_of(block_space())) == 0
    for shape in shapes_of(block_space()):
        assert shape in again
        assert again.seconds(shape) == table.seconds(shape) > 0
    assert again.switch(4096) == table.switch(4096)


def test_a_factorised_layer_costs_the_sum_of_its_factors(table: LatencyTable) -> None:
    shape = replace(conv(32, 32), method="svd", rank=(8,))
    assert table.seconds(shape) == pytest.approx(sum(table.seconds(part) for part in shape.factors()))


def test_two_processes_join_what_they_measured(tmp_path: Path) -> None:
    first, second = LatencyTable(tmp_path), LatencyTable(tmp_path)
    first.measure([conv(4, 4)])
    second.measure([conv(4, 8)])
    assert len(LatencyTable(tmp_path)) == 2


def test_a_damaged_table_is_measured_anew_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = LatencyTable(tmp_path).path
    path.write_text('{"coldpress_latency": 1, "seconds": {"[1]": 2')
    with caplog.at_level(logging.WARNING, "coldpress"):
        assert len(LatencyTable(tmp_path)) == 0
    assert "damaged" in caplog.text


def test_what_there_is_no_time_for_is_interpolated(tmp_path: Path) -> None:
    shapes = [conv(i, o, kernel=1, size=2) for i in range(4, 44, 4) for o in range(4, 44, 4)]
    found = LatencyTable(tmp_path)
    assert 0 < found.measure(shapes, limit_seconds=0.0) < len(shapes)
    assert all(found.seconds(shape) > 0 for shape in shapes)
    with pytest.raises(KeyError, match="no layer like"):
        found.seconds(conv(4, 4, kernel=5))


def test_the_cost_of_a_plan_is_the_sum_of_its_layers(table: LatencyTable) -> None:
    space = block_space()
    cost = latency_cost(space, table, (2.0, 0.5))
    full = sum(table.seconds(site.shape) for site in space.sites)
    assert cost.value([0] * 6) == pytest.approx(2 * full + 0.5)
    dropped = [0, 0, 0, 0, 0, 1]
    there = [space.sites[i] for i in (0, 3)]
    glue = 0.5 * len(there) / len(space.sites)  # what runs between layers goes with them
    assert cost.value(dropped) == pytest.approx(2 * sum(table.seconds(site.shape) for site in there) + glue)
    assert cost.value([0, 1, 0, 0, 0, 1]) == math.inf


def test_slower_than_leaving_alone_is_forbidden(table: LatencyTable, tmp_path: Path) -> None:
    space = block_space()
    slow = LatencyTable(tmp_path)
    low = replace(conv(32, 32), method="svd", rank=(8,))
    for shape in shapes_of(space):
        factor = 100.0 if shape.bits == 8 or shape in {replace(part, bias=True) for part in low.factors()} else 1.0
        slow._seconds[key(shape)] = factor * shape.macs
    cost = latency_cost(space, slow)
    assert cost.value([0, 0, 1, 0, 0, 0]) == math.inf
    assert cost.value([0, 0, 0, 1, 0, 0]) == math.inf
    assert cost.value([0, 0, 2, 0, 0, 0]) < cost.value([0] * 6)
    assert latency_cost(space, slow, slow_bits=True).value([0, 0, 0, 1, 0, 0]) < math.inf


def test_meeting_of_bits_is_counted(table: LatencyTable) -> None:
    space = block_space()
    cost = latency_cost(space, table, slow_bits=True)
    options = {i: unit.options[0] for i, unit in enumerate(space.units)} | {3: space.units[3].options[1]}
    layers = sum(table.seconds(shape) for site in space.sites if (shape := site.configured(options)))
    assert cost.value([0, 0, 0, 1, 0, 0]) == pytest.approx(layers + 2 * table.switch(32 * 64))


@given(st.integers(1, 64), st.integers(1, 64))
def test_interpolation_is_exact_for_bilinear_times(i: int, o: int) -> None:
    family = Family({(a, b): 1.0 + 2 * a + 3 * b + 0.5 * a * b for a in (1, 16, 64) for b in (1, 32, 64)})
    assert family.at(i, o) == pytest.approx(1.0 + 2 * i + 3 * o + 0.5 * i * o)
    scattered = Family(
        {(a, b): 1.0 + 2 * a + 3 * b + 0.5 * a * b for a, b in ((1, 2), (5, 7), (9, 3), (20, 30), (64, 1))}
    )
    assert scattered.at(i, o) == pytest.approx(1.0 + 2 * i + 3 * o + 0.5 * i * o, rel=1e-3)


def test_coarse_widths_come_first() -> None:
    levels = ordered({conv(i, 16) for i in range(16, 96, 16)}, set())
    assert [sorted(shape.in_channels for shape in level) for level in levels] == [[16, 80], [48], [32, 64]]


def test_keys_hold_all_that_decides_a_time() -> None:
    shape = replace(conv(16, 32), stride=(2, 1), groups=2, bits=8)
    assert shape_of(key(shape)) == shape
    dynamic = LayerShape("linear", 16, 8, input_size=(4, 1), bits=8, dynamic=True)
    assert shape_of(key(dynamic)) == dynamic
    assert key(replace(dynamic, calls=3)) == key(dynamic) != key(replace(dynamic, dynamic=False))


def test_a_layer_costs_as_often_as_it_is_called(table: LatencyTable) -> None:
    assert table.seconds(replace(conv(32, 32), calls=3)) == pytest.approx(3 * table.seconds(conv(32, 32)))
    assert replace(conv(32, 32), calls=3).macs == 3 * conv(32, 32).macs
    assert replace(conv(32, 32), calls=3).bytes == conv(32, 32).bytes


class Modelled:
    """A float layer takes 10 s, int8 the seconds given for its form, a conversion 2 s."""

    def __init__(self, static: float, dynamic: float) -> None:
        self.int8 = {False: static, True: dynamic}

    def seconds(self, shape: LayerShape) -> float:
        return self.int8[shape.dynamic] if shape.bits == 8 else 10.0

    def switch(self, elements: int) -> float:
        return 2.0


@pytest.mark.parametrize(
    ("positions", "dynamic", "seconds", "pays"),
    [
        (7, False, 5.0, True),
        (7, False, 7.0, False),
        (1, False, 13.0, True),
        (7, True, 9.0, True),
        (1, True, 11.0, False),
    ],
)
def test_static_int8_between_floats_pays_for_its_conversions(
    positions: int, dynamic: bool, seconds: float, pays: bool
) -> None:
    shape = LayerShape("linear", 8, 8, input_size=(positions, 1), bits=8, dynamic=dynamic)
    assert int8_pays(Modelled(seconds, seconds), shape) is pays


def test_where_floats_are_handed_on_nothing_is_counted_twice() -> None:
    forms = (Option("keep"), Option("int8", bits=8), Option("int8-dynamic", bits=8, dynamic=True))
    units = tuple(Unit(name, "bits", name, forms) for name in "ab")
    shape = LayerShape("linear", 8, 8, input_size=(7, 1))
    cost = latency_cost(Space(units, (Site("a", shape, bits=0), Site("b", shape, bits=1))), Modelled(3.0, 4.0))
    assert [cost.value([i, 2]) for i in (0, 1, 2)] == [14.0, 3.0 + 4.0 + 4.0, 8.0]


@given(st.floats(0.5, 3.0), st.floats(0.0, 5.0))
def test_calibration_finds_scale_and_overhead(scale: float, overhead: float) -> None:
    predicted = [1.0, 2.0, 4.0, 8.0]
    found = calibrate(predicted, [scale * p + overhead for p in predicted])
    assert found == pytest.approx((scale, overhead), abs=1e-6)


def test_calibration_is_never_negative_and_bears_few_or_bad_points() -> None:
    assert calibrate([2.0], [3.0]) == pytest.approx((1.5, 0.0))
    assert calibrate([2.0, 2.0], [3.0, 3.0]) == pytest.approx((1.5, 0.0))
    assert min(calibrate([1.0, 2.0], [1.0, 4.0])) >= 0
    assert min(calibrate([1.0, 2.0], [4.0, 1.0])) >= 0
    scale, overhead = calibrate([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 3.0, 4.0, 50.0, 6.0])
    assert (scale, overhead) == pytest.approx((1.0, 1.0), rel=0.1)
    with pytest.raises(ValueError, match="positive"):
        calibrate([], [])


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
