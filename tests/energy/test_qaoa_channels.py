"""Channels by QAOA: the right number, the optimum of brute force, masks that equal removal."""

from __future__ import annotations

import itertools

import dimod
import numpy as np
import pytest

from coldpress.energy.fisher import fisher_energy
from coldpress.energy.qaoa_channels import least_subset, prune_by_qaoa
from coldpress.errors import SurgeryError
from coldpress.samplers import ExhaustiveSampler, QAOASampler
from coldpress.space import channel_groups
from coldpress.surgery.retention import prune_channels
from tiny import build, inputs_of

WARM = {"warm_start": "relaxation"}


def energies(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    gradients = rng.normal(size=(60, n)) * rng.uniform(0.2, 2.0, n) + 0.5 * rng.normal(size=(60, 1))
    linear, factor = fisher_energy(gradients)
    return linear, factor, np.diag(linear) + 0.5 * factor @ factor.T


@pytest.mark.parametrize(("n", "count"), [(6, 0), (6, 6), (7, 2), (9, 4), (10, 5)])
def test_the_optimum_of_brute_force_is_found(n: int, count: int) -> None:
    linear, factor, matrix = energies(n, n)
    best = min(matrix[np.ix_(c, c)].sum() for c in itertools.combinations(range(n), count))
    found = least_subset(linear, factor, count, QAOASampler(), WARM, num_reads=64)
    assert found.gone.sum() == count
    x = found.gone.astype(float)
    assert found.energy == pytest.approx(linear @ x + 0.5 * np.square(factor.T @ x).sum())
    assert found.energy == pytest.approx(best, abs=1e-9)
    assert "simulated" in found.info["method"]


def test_reads_of_any_sampler_are_repaired() -> None:
    linear, factor, _ = energies(8, 1)
    everything = {"initial_states": {str(i): 1 for i in range(8)}}
    found = least_subset(linear, factor, 3, dimod.IdentitySampler(), everything, num_reads=1)
    assert found.gone.sum() == 3
    assert found.in_count == 0.0


def test_units_without_harm_are_no_trouble() -> None:
    assert least_subset(np.zeros(5), np.zeros((5, 1)), 2, QAOASampler(), num_reads=16).gone.sum() == 2


def test_small_groups_are_pruned_as_well_as_can_be() -> None:
    model, inputs = build("concatenation"), inputs_of("concatenation", count=32)
    groups = list(channel_groups(model, inputs)[0].values())
    found, subsets = prune_by_qaoa(model, inputs, groups, 0.5, num_reads=64, seed=2)
    exact, optimum = prune_by_qaoa(model, inputs, groups, 0.5, sampler=ExhaustiveSampler(), seed=2)
    magnitude = prune_channels(model, groups, 0.5)
    assert found.gone == exact.gone == magnitude.gone
    for name, subset in subsets.items():
        assert subset.energy <= 1.02 * optimum[name].energy + 1e-12
        assert len(found.kept[name]) == len(magnitude.kept[name])
    assert all(found.masks[name].shape == mask.shape for name, mask in magnitude.masks.items())
    again, _ = prune_by_qaoa(model, inputs, groups, 0.5, num_reads=64, seed=2)
    assert again.kept == found.kept


def test_large_groups_are_refused() -> None:
    model, inputs = build("padded shortcuts"), inputs_of("padded shortcuts")
    groups = list(channel_groups(model, inputs)[0].values())
    with pytest.raises(SurgeryError, match="20 at most"):
        prune_by_qaoa(model, inputs, groups, 0.5)
