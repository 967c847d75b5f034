"""Ranks by rule: planted ranks are found, and bad input is refused."""

import pytest
import torch

from coldpress.errors import PlanError
from coldpress.layer_shape import LayerShape
from coldpress.space.rank_rules import named_rule, rank_by_energy, rank_by_evbmf, ruled_rank


def planted(rows, columns, rank, noise, seed=0):
    generator = torch.Generator().manual_seed(seed)
    signal = torch.randn(rows, rank, generator=generator) @ torch.randn(rank, columns, generator=generator)
    return signal + noise * torch.randn(rows, columns, generator=generator)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (40, 200), (200, 40)])
@pytest.mark.parametrize("rank", [1, 5, 12])
def test_a_planted_rank_stands_out_of_noise(rows, columns, rank):
    assert rank_by_evbmf(planted(rows, columns, rank, 0.3)) == rank


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_pure_noise_has_the_least_rank_at_any_scale(scale):
    assert rank_by_evbmf(scale * torch.randn(60, 90, generator=torch.Generator().manual_seed(1))) == 1


def test_the_energy_kept_is_reached_and_not_by_one_less():
    matrix = planted(30, 50, 6, 0.5)
    energies = torch.linalg.svdvals(matrix.double()).square()
    for share in (0.1, 0.5, 0.9, 0.99):
        rank = rank_by_energy(matrix, share)
        assert energies[:rank].sum() >= share * energies.sum()
        assert energies[: rank - 1].sum() < share * energies.sum()
    assert rank_by_energy(matrix, 1.0) == 30


def test_each_factor_is_told_from_the_unfolding_that_it_cuts():
    generator = torch.Generator().manual_seed(0)
    core = torch.randn(3, 2, 3, 3, generator=generator)
    outer, inner = torch.randn(24, 3, generator=generator), torch.randn(16, 2, generator=generator)
    weight = torch.einsum("os,srhw,ir->oihw", outer, core, inner)
    shape = LayerShape("conv", 16, 24, kernel=(3, 3))

    def exact(matrix):
        return int(torch.linalg.matrix_rank(matrix.double(), rtol=1e-5))

    assert ruled_rank(shape, weight, "tucker", exact) == (2, 3)
    assert ruled_rank(shape, weight, "svd", exact) == (3,)
    wide = torch.einsum("rih,orw->oihw", torch.randn(4, 16, 3, generator=generator), torch.randn(24, 4, 3))
    assert ruled_rank(shape, wide, "spatial", exact) == (4,)


def test_bad_input_is_refused():
    with pytest.raises(PlanError, match="share"):
        rank_by_energy(torch.eye(3), 1.5)
    with pytest.raises(PlanError, match="NaN"):
        rank_by_evbmf(torch.full((3, 3), float("nan")))
    with pytest.raises(PlanError, match="groups"):
        ruled_rank(LayerShape("conv", 8, 8, groups=2), torch.zeros(8, 4, 1, 1), "svd", rank_by_evbmf)
    assert rank_by_evbmf(torch.zeros(4, 5)) == 1


def test_rules_are_known_by_name():
    matrix = planted(30, 50, 6, 0.5)
    assert named_rule("energy:0.5")(matrix) == rank_by_energy(matrix, 0.5) != rank_by_energy(matrix, 0.9)
    assert named_rule("evbmf")(matrix) == rank_by_evbmf(matrix)


@pytest.mark.parametrize("text", ["energy", "energy:", "energy:0", "energy:1.1", "energy:nan", "evbmf:1", "20"])
def test_what_is_no_rule_is_refused_with_what_is(text):
    with pytest.raises(PlanError, match=f"rank is '{text}'; give .*energy:0.9, say.* or evbmf"):
        named_rule(text)
