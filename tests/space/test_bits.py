"""The form of int8 is the one that was asked for, or the one that measures faster where the layer stands."""

from __future__ import annotations

import pytest

from coldpress.cost.profiles import ModelledTable, profile
from coldpress.layer_shape import LayerShape
from coldpress.plan import Option, Site, Space, Unit
from coldpress.space.bits import STATIC, faster_dynamic, with_int8_form

TOKENS = LayerShape("linear", 64, 64, input_size=(16, 1))
SHAPES = {
    "conv": LayerShape("conv", 16, 16, (3, 3), padding=(1, 1), input_size=(8, 8)),
    "over tokens": TOKENS,
    "head": LayerShape("linear", 64, 10),
    "table": LayerShape("embedding", 100, 64, input_size=(16, 1), bias=False),
}


class Table(ModelledTable):
    """Where only one form of int8 takes time."""

    def __init__(self, slow: str) -> None:
        super().__init__(profile("rpi5"))
        self.slow = slow

    def seconds(self, shape: LayerShape) -> float:
        return float(shape.bits == 8 and (self.slow == "dynamic") == shape.dynamic)


def space() -> Space:
    units = tuple(Unit(f"{name}:bits", "bits", name, (Option("keep"), STATIC)) for name in SHAPES)
    return Space(units, tuple(Site(name, shape, bits=i) for i, (name, shape) in enumerate(SHAPES.items())))


def labels(found: Space) -> dict[str, list[str]]:
    return {unit.target: [option.label for option in unit.options[1:]] for unit in found.units}


@pytest.mark.parametrize(
    ("form", "linear"), [("static", ["int8"]), ("dynamic", ["int8-dynamic"]), ("both", ["int8", "int8-dynamic"])]
)
def test_linear_layers_are_offered_what_was_asked_for(form: str, linear: list[str]) -> None:
    found = with_int8_form(space(), form)  # type: ignore[arg-type]
    assert labels(found) == {"conv": ["int8"], "over tokens": linear, "head": linear, "table": ["int8"]}


def test_what_measures_faster_takes_the_place_of_the_other_and_says_why() -> None:
    faster = faster_dynamic(space(), Table(slow="static"))
    found = with_int8_form(space(), "static", faster)
    assert labels(found)["over tokens"] == ["int8-dynamic"]
    assert labels(found)["head"] == labels(found)["conv"] == ["int8"]  # they may hand on integers
    assert found.sizes == space().sizes
    assert "between floats" in found.refused["over tokens in static int8"]
    assert faster_dynamic(space(), Table(slow="dynamic")) == {}
