"""Plans round-trip through JSON; shapes add up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldpress.errors import PlanError
from coldpress.layer_shape import LayerShape
from coldpress.plan import Plan

names = st.text(min_size=1, max_size=20)
leaves = st.integers(-9, 9) | st.booleans() | names
plans = st.builds(
    Plan,
    choices=st.dictionaries(names, names, max_size=4),
    kept=st.dictionaries(names, st.lists(st.integers(0, 5000), unique=True).map(lambda rows: tuple(sorted(rows)))),
    structure=st.dictionaries(names, st.dictionaries(names, leaves | st.lists(leaves), max_size=3), max_size=3),
)


@given(plan=plans)
@settings(max_examples=100, deadline=None)
def test_json_is_read_back_as_it_was(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "3",
        "{}",
        '{"coldpress_plan": 1}',
        '{"coldpress_plan": 1, "choices": 5}',
        '{"coldpress_plan": 1, "choices": {}, "kept": {"a": ["x"]}}',
        '{"coldpress_plan": 1, "choices": {}, "kept": []}',
    ],
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(PlanError, match="not a coldpress plan"):
        Plan.from_json(text)


def test_another_format_is_refused() -> None:
    text = json.dumps(json.loads(Plan().to_json()) | {"coldpress_plan": 2})
    with pytest.raises(PlanError, match="format 2 is unknown"):
        Plan.from_json(text)


shapes = st.builds(
    LayerShape,
    kind=st.just("conv"),
    in_channels=st.integers(1, 64),
    out_channels=st.integers(1, 64),
    kernel=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 5])),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    input_size=st.tuples(st.integers(12, 40), st.integers(12, 40)),
    bias=st.booleans(),
)
forms = st.one_of(
    st.tuples(st.sampled_from(["svd", "spatial"]), st.tuples(st.integers(1, 64))),
    st.tuples(st.just("tucker"), st.tuples(st.integers(1, 64), st.integers(1, 64))),
)


@given(shape=shapes, form=forms)
@settings(max_examples=100, deadline=None)
def test_factors_end_where_the_layer_ends_and_their_costs_add_up(
    shape: LayerShape, form: tuple[str, tuple[int, ...]]
) -> None:
    factored = replace(shape, method=form[0], rank=form[1])
    parts = factored.factors()
    assert parts[0].in_channels == shape.in_channels
    assert parts[-1].out_channels == shape.out_channels
    assert parts[-1].output_size == shape.output_size
    for before, after in pairwise(parts):
        assert before.out_channels == after.in_channels
        assert before.output_size == after.input_size
    assert factored.weights == sum(part.weights for part in parts)
    assert factored.parameters == sum(part.parameters for part in parts)
    assert factored.bytes == sum(part.bytes for part in parts) == 4 * factored.parameters
    assert factored.macs == sum(part.weights * math.prod(part.output_size) for part in parts)
    assert replace(factored, bits=8).bytes == sum(replace(part, bits=8).bytes for part in parts)
    assert replace(shape, bits=8).bytes < shape.bytes + 5 * shape.out_channels
