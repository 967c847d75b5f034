"""The energy of an option is the loss it causes; of plans, a convex prediction of theirs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coldpress.energy import curvature
from coldpress.energy.correlation import (
    correlate,
    energy_of,
    measure_plans,
    random_plans,
    rank_correlation,
    without_dead_choices,
)
from coldpress.energy.curvature import Sensitivities, sensitivities
from coldpress.errors import TaskError
from coldpress.network import divergence, evaluating, first_tensor
from coldpress.plan import Plan, Space
from coldpress.problem import Problem
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import collect_moments
from tiny import build, inputs_of, space_of

Measured = tuple[nn.Module, Space, Effects, tuple[Tensor, ...], Sensitivities]
NAME = "projected shortcuts"


@pytest.fixture(scope="module")
def measured() -> Measured:
    model, inputs = build(NAME), inputs_of(NAME, count=24)
    space = space_of(model, inputs)
    effects = Effects(model, space, collect_moments(model, [site.name for site in space.sites], inputs))
    return model, space, effects, inputs, sensitivities(model, space, effects, inputs)


def test_the_energy_of_one_option_is_its_measured_loss(measured: Measured) -> None:
    model, space, effects, inputs, found = measured
    energy = found.energy(space)
    for unit in space.units:
        for option in unit.options:
            choices = {unit.name: option.label}
            if unit.kind == "bits":
                (kl,) = measure_plans(model, effects, [choices], inputs)
            else:
                student, _ = apply_plan(model, space, Plan(choices, effects.kept(choices)), moments=effects.moments)
                with evaluating(model), evaluating(student):
                    kl = divergence(first_tensor(model(*inputs)), first_tensor(student(*inputs)))
            assert energy_of(energy, space, choices) == pytest.approx(kl, rel=2e-3, abs=1e-6), choices


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_energy_is_convex_and_keeping_costs_nothing(measured: Measured, alpha: float) -> None:
    _, space, _, _, found = measured
    energy = found.energy(space, alpha)
    values = np.linalg.eigvalsh(energy.quadratic)
    assert values[0] >= -1e-9 * values[-1]
    assert energy.is_convex
    assert energy_of(energy, space, {}) == 0.0
    problem = Problem(space, energy, {})
    for choices in random_plans(space, 8, seed=1):
        assert energy_of(energy, space, choices) == pytest.approx(problem.energy_of(problem.choice(Plan(choices))))
        assert energy_of(energy, space, choices) >= 0.0


def test_shrinkage_touches_only_terms_between_units(measured: Measured) -> None:
    _, space, _, _, found = measured
    full, none, half = (found.energy(space, alpha).quadratic for alpha in (1.0, 0.0, 0.5))
    np.testing.assert_allclose(half, (full + none) / 2, atol=1e-12)
    owner = np.repeat(np.arange(len(space.units)), space.sizes)
    same = owner[:, None] == owner
    np.testing.assert_array_equal(full[same], none[same])
    assert not none[~same].any()


def test_the_curvature_is_the_second_order_of_the_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, 6, generator=generator, dtype=torch.float64)
    change = torch.randn(20, 6, generator=generator, dtype=torch.float64) * 1e-3
    p = logits.softmax(1)
    root = p.sqrt() * (change - (p * change).sum(1, keepdim=True))
    assert divergence(logits, logits + change) == pytest.approx(float(0.5 * root.square().sum() / 20), rel=1e-2)
    assert divergence(logits, logits + 3.0) == pytest.approx(0.0, abs=1e-12)


def test_small_parts_give_what_the_whole_gives(measured: Measured, monkeypatch: pytest.MonkeyPatch) -> None:
    model, space, effects, inputs, found = measured
    monkeypatch.setattr(curvature, "MOST_BYTES", 1_000_000)
    width = [unit.name for unit in space.units if unit.kind == "width"]
    parts = sensitivities(model, space, effects, inputs)
    offsets = np.concatenate([[0], np.cumsum(space.sizes)])
    for u, unit in enumerate(space.units):
        if unit.name in width:  # int8 rounds by the range of the part
            own = slice(int(offsets[u]), int(offsets[u + 1]))
            np.testing.assert_allclose(parts.kl[own], found.kl[own], rtol=1e-4, atol=1e-8)
            np.testing.assert_allclose(parts.features[own], found.features[own], rtol=1e-3, atol=1e-5)


def test_around_an_incumbent_its_own_loss_is_the_constant(measured: Measured) -> None:
    model, space, effects, inputs, _ = measured
    choices = {unit.name: unit.options[2].label for unit in space.units if unit.kind == "width"}
    (kl,) = measure_plans(model, effects, [choices], inputs)
    around = sensitivities(model, space, effects, inputs, incumbent=choices, radius=1)
    energy = around.energy(space)
    assert energy_of(energy, space, choices) == pytest.approx(kl, rel=1e-5)
    assert around.runs == around.measured.sum() - len(space.units)
    assert around.runs < sum(space.sizes) - len(space.units)
    assert energy.is_convex


def test_random_plans_are_seeded_grow_and_hold_nothing_dead(measured: Measured) -> None:
    _, space, _, _, _ = measured
    one, same, other = (random_plans(space, 12, seed=seed) for seed in (3, 3, 4))
    assert one == same != other
    assert sum(map(len, one[:4])) < sum(map(len, one[-4:]))
    assert all(plan == without_dead_choices(space, plan) for plan in one)
    assert without_dead_choices(space, {"first:depth": "drop", "first.conv1:width": "4/8"}) == {"first:depth": "drop"}


def test_correlation_with_measured_loss(measured: Measured) -> None:
    model, space, effects, _, found = measured
    result = correlate(model, space, effects, found, inputs_of(NAME, count=24, seed=6), count=14, seed=0)
    assert result.spearman > 0.8
    assert 0.0 <= result.alpha <= 1.0
    assert len(result.plans) == len(result.predicted) == len(result.measured) == 14
    assert rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1.0)
    assert np.isnan(rank_correlation([1, 2], [2, 1]))


def test_outputs_that_are_not_finite_are_refused(measured: Measured) -> None:
    model, space, effects, inputs, _ = measured
    with pytest.raises(TaskError, match="not finite"):
        sensitivities(model, space, effects, [inputs[0] * float("nan")])
