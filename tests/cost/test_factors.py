"""The tables add up to what counting layer by layer gives, for every plan."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldpress.cost import layer_cost, macs_cost, merged, size_cost
from coldpress.layer_shape import LayerShape
from coldpress.plan import Space
from coldpress.problem import Factor

from .spaces import block_space, concat_space, conv


def counted(space: Space, choice: tuple[int, ...], quantity: Callable[[LayerShape], float]) -> float:
    """Brute force: every layer as the plan leaves it; +inf for what must be forbidden."""
    options = {i: unit.options[o] for i, (unit, o) in enumerate(zip(space.units, choice))}
    total = 0.0
    for site in space.sites:
        shape = site.configured(options)
        if shape is not None:
            total += quantity(shape) if shape.factors_pay else math.inf
    return total


@pytest.mark.parametrize("make", [block_space, concat_space])
def test_bytes_and_macs_equal_counting_for_every_plan(make: Callable[[], Space]) -> None:
    space = make()
    size, macs = size_cost(space, constant=100), macs_cost(space)
    for choice in itertools.product(*(range(n) for n in space.sizes)):
        dropped = space.units[-1].name == "block" and choice[-1] == 1
        if dropped and any(choice[1:-1]):
            assert size.value(choice) == macs.value(choice) == math.inf  # one plan, one description
            continue
        assert size.value(choice) == counted(space, choice, lambda shape: shape.bytes) + 100
        assert macs.value(choice) == counted(space, choice, lambda shape: shape.macs)


def test_a_wide_concatenation_becomes_factors_of_few_units() -> None:
    cost = size_cost(concat_space())
    assert max(len(factor.units) for factor in cost.factors) == 3
    assert len({factor.units for factor in cost.factors}) == len(cost.factors)


def test_layers_that_nothing_governs_are_a_constant() -> None:
    space = concat_space()
    fixed = Space((), tuple(type(site)(site.name, site.shape) for site in space.sites))
    cost = macs_cost(fixed, constant=5)
    assert cost.factors == ()
    assert cost.value([]) == 5 + sum(site.shape.macs for site in space.sites)


def test_the_rule_forbids_what_it_refuses() -> None:
    cost = layer_cost("narrow", block_space(), lambda shape: 1.0, allowed=lambda shape: shape.out_channels != 8)
    assert cost.value([0, 0, 0, 0, 0, 0]) == 4
    assert cost.value([0, 2, 0, 0, 0, 0]) == math.inf


@given(st.permutations([0, 1, 2]), st.integers(0, 99))
def test_merging_keeps_the_sum(order: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = (2, 3, 4)
    units = tuple(order)
    factors = [Factor((0, 1, 2), rng.random(sizes)), Factor(units, rng.random([sizes[u] for u in units]))]
    (one,) = merged(factors)
    for choice in itertools.product(*(range(n) for n in sizes)):
        wanted = factors[0].table[choice] + factors[1].table[tuple(choice[u] for u in units)]
        assert one.table[choice] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("method", "rank", "pays"),
    [
        ("svd", (8,), True),
        ("svd", (32,), False),
        ("svd", (29,), False),
        ("tucker", (8, 8), True),
        ("tucker", (32, 8), False),
    ],
)
def test_a_rank_pays_when_it_is_low_and_saves_weights(method: str, rank: tuple[int, ...], pays: bool) -> None:
    shape = conv(32, 32)
    assert shape.factors_pay
    assert LayerShape(**{**shape.__dict__, "method": method, "rank": rank}).factors_pay is pays
