"""Grids of few bits, and their levels in bytes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coldpress.errors import SurgeryError
from coldpress.surgery.grid import to_grid
from coldpress.surgery.packing import pack_levels, unpack_levels


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.integers(0, 1000), st.floats(-6, 6))
def test_weights_on_a_grid_stay_as_they_are(bits: int, seed: int, size: float) -> None:
    weight = 10**size * torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(seed))
    grid = to_grid(weight, bits)
    again = to_grid(grid.weight, bits)
    assert torch.equal(again.levels, grid.levels)
    assert torch.equal(again.scales, grid.scales)
    assert torch.equal(again.weight, grid.weight)


@pytest.mark.parametrize("bits", range(2, 9))
def test_no_level_is_nearer_than_the_one_taken(bits: int) -> None:
    weight = torch.randn(6, 40, generator=torch.Generator().manual_seed(bits))
    grid, top = to_grid(weight, bits), 2 ** (bits - 1) - 1
    assert int(grid.levels.abs().max()) == top
    levels = torch.arange(-top, top + 1).float()
    every = (weight[:, :, None] - levels * grid.scales[:, None, None]).abs().amin(2)
    torch.testing.assert_close((weight - grid.weight).abs(), every)


def test_rows_of_zeros_stay_zeros() -> None:
    weight = torch.zeros(3, 4)
    weight[1, 2] = 1.0
    assert torch.equal(to_grid(weight, 2).weight, weight)


@pytest.mark.parametrize("weight", [torch.tensor([[math.nan]]), torch.tensor([[math.inf]])])
def test_weights_that_are_not_finite_are_refused(weight: torch.Tensor) -> None:
    with pytest.raises(SurgeryError, match="NaN or Inf"):
        to_grid(weight, 4)


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(SurgeryError, match="2 to 8"):
        to_grid(torch.ones(1, 1), bits)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.integers(0, 50), st.integers(0, 1000))
def test_unpacked_is_packed_and_takes_no_byte_more(bits: int, count: int, seed: int) -> None:
    half = 2 ** (bits - 1)
    levels = torch.randint(-half, half, (count,), generator=torch.Generator().manual_seed(seed)).to(torch.int8)
    packed = pack_levels(levels, bits)
    assert packed.numel() == math.ceil(count * bits / 8)
    assert torch.equal(unpack_levels(packed, bits, count), levels)


def test_levels_and_bytes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SurgeryError, match="3 bits hold -4 to 3"):
        pack_levels(torch.tensor([4], dtype=torch.int8), 3)
    with pytest.raises(SurgeryError, match="9 levels of 3 bits are 4 bytes"):
        unpack_levels(torch.zeros(3, dtype=torch.uint8), 3, 9)
