"""The curvature energy: what is chosen alone costs its measured KL, and together it ranks like the loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from coldpress.energy.filter_correlation import compare_energies, random_samples
from coldpress.energy.filter_curvature import curvature
from coldpress.energy.weight_norm import weight_norm
from coldpress.errors import TaskError
from coldpress.network import divergence, forwarding
from coldpress.surgery.decode import changed_layers
from tiny import build, filters_of, inputs_of

NAME = "projected shortcuts"


def test_a_filter_alone_costs_the_kl_of_its_going() -> None:
    net, inputs = build(NAME), inputs_of(NAME, 16)
    space = filters_of(net, inputs)
    model = curvature(net, space, inputs)
    for v in (0, 11, len(space.filters) - 1):
        g, a = space.filters[v]
        columns = {(m.module, "in"): m.index[a].ravel() for m in space.groups[g].of_role("in")}
        with torch.no_grad():
            before = net(*inputs)
            with forwarding(net, changed_layers(net, {}, columns)):
                after = net(*inputs)
        assert model.linear[space.variables[v]] == pytest.approx(divergence(before, after), rel=1e-4, abs=1e-8)


def test_random_samples_are_ranked_and_all_energies_are_held_against_one_measurement() -> None:
    net, inputs = build(NAME), inputs_of(NAME, 24)
    space = filters_of(net, inputs)
    told: list[tuple[int, int]] = []
    energies = {"weight norm": weight_norm(net, space), "curvature": curvature(net, space, inputs)}
    samples = random_samples(space, 16)
    found = compare_energies(net, space, energies, inputs_of(NAME, 24, seed=5), samples, lambda *now: told.append(now))
    assert told[-1] == (16, 16)
    assert set(found.spearman) == set(energies)
    assert found.spearman["curvature"] > 0.7
    assert found.predicted["weight norm"] == tuple(energies["weight norm"].energy(sample) for sample in samples)
    assert "| curvature | 0." in found.table()
    assert min(found.measured) > 0


def test_random_samples_are_as_strong_as_asked_and_leave_something_of_each_group() -> None:
    net, inputs = build(NAME), inputs_of(NAME)
    space = filters_of(net, inputs)
    assert random_samples(space, 3, seed=1) == random_samples(space, 3, seed=1)
    assert random_samples(space, 3, seed=1) != random_samples(space, 3, seed=2)
    for sample in random_samples(space, 4, least=1.0, most=1.0):
        kept = space.kept(sample)
        assert [len(kept[group.name]) for group in space.groups] == [group.atom for group in space.groups]
        assert set(space.bits(sample).values()) == {2}
    rates = [space.reduction(sample) for sample in random_samples(space, 9)]
    assert np.corrcoef(rates, np.arange(9))[0, 1] > 0.9


def test_networks_that_give_nan_are_refused() -> None:
    net, inputs = build(NAME), inputs_of(NAME)
    space = filters_of(net, inputs)
    with torch.no_grad():
        net.get_parameter("head.bias")[0] = np.nan
    with pytest.raises(TaskError, match="not finite"):
        curvature(net, space, inputs)
