"""What the energy measures is what surgery carries out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coldpress.energy.correlation import random_plans
from coldpress.energy.suffix import Suffix
from coldpress.errors import PlanError
from coldpress.network import first_tensor
from coldpress.plan import KEEP, Plan, Space
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import collect_moments
from coldpress.surgery.structure import rebuild
from tiny import NETWORKS, build, inputs_of, space_of

KINDS = ("width", "rank", "depth", "cp", "tensor-train")


def prepared(name: str) -> tuple[nn.Module, Space, Effects]:
    model, inputs = build(name), inputs_of(name, count=16)
    space = space_of(model, inputs, *KINDS)
    return model, space, Effects(model, space, collect_moments(model, [s.name for s in space.sites], inputs))


def outputs(name: str, model: nn.Module, space: Space, effects: Effects, choices: dict[str, str]) -> list[Tensor]:
    """Logits as the energy predicts them, as the smaller network gives them, and as the rebuilt one does."""
    inputs = inputs_of(name, seed=9)
    with Suffix(model, inputs) as suffix:
        predicted = suffix.run(effects.replacements(choices))
    plan = Plan(choices, effects.kept(choices))
    student, done = apply_plan(model, space, plan, moments=effects.moments)
    fresh = build(name, seed=5)
    rebuild(fresh, Plan.from_json(done.to_json()).structure)
    fresh.load_state_dict(student.state_dict())
    with torch.no_grad():
        return [predicted, first_tensor(student.eval()(*inputs)), first_tensor(fresh.eval()(*inputs))]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_option_alone_is_predicted_exactly(name: str) -> None:
    model, space, effects = prepared(name)
    for unit in space.units:
        for option in {unit.options[1], unit.options[-1]}:
            predicted, real, rebuilt = outputs(name, model, space, effects, {unit.name: option.label})
            torch.testing.assert_close(real, predicted, atol=1e-4, rtol=1e-4, msg=f"{unit.name} {option.label}")
            assert torch.equal(real, rebuilt)


@pytest.mark.parametrize("name", NETWORKS)
def test_plans_of_many_units_are_predicted_exactly(name: str) -> None:
    model, space, effects = prepared(name)
    for choices in random_plans(space, 4, seed=2, most=0.9):
        predicted, real, rebuilt = outputs(name, model, space, effects, choices)
        torch.testing.assert_close(real, predicted, atol=1e-4, rtol=1e-4, msg=str(choices))
        assert torch.equal(real, rebuilt)


@pytest.mark.parametrize("name", ["padded shortcuts", "depthwise and grouped"])
def test_kept_channels_are_nested_and_as_many_as_the_option_says(name: str) -> None:
    _, space, effects = prepared(name)
    for unit in (unit for unit in space.units if unit.kind == "width"):
        group = space.groups[unit.name]
        wider = set(range(group.channels))
        for option in unit.options[1:]:
            kept = effects.kept({unit.name: option.label})[unit.name]
            assert len(kept) == option.channels
            assert list(kept) == sorted(set(kept))
            assert set(kept) < wider
            assert all(np.bincount(np.array(kept) // group.atom)[np.array(kept) // group.atom] == group.atom)
            wider = set(kept)


def test_keeping_everything_replaces_nothing_and_changes_nothing() -> None:
    model, space, effects = prepared("projected shortcuts")
    keep = {unit.name: KEEP for unit in space.units}
    assert effects.replacements(keep) == {}
    assert effects.kept(keep) == {}
    student, plan = apply_plan(model, space, Plan(keep))
    assert plan.structure == {}
    inputs = inputs_of("projected shortcuts")
    with torch.no_grad():
        assert torch.equal(student(*inputs), model(*inputs))


def test_int8_changes_little_and_something() -> None:
    model, inputs = build("padded shortcuts"), inputs_of("padded shortcuts", count=16)
    space = space_of(model, inputs, "bits")
    effects = Effects(model, space, {})
    with Suffix(model, inputs) as suffix:
        rounded = suffix.run(effects.replacements({unit.name: "int8" for unit in space.units}))
        scale = suffix.logits.abs().max()
        assert 0 < (rounded - suffix.logits).abs().max() < 0.1 * scale


def test_plans_that_do_not_fit_are_refused() -> None:
    model, space, effects = prepared("tuple")
    unit = next(unit for unit in space.units if unit.kind == "width")
    choices = {unit.name: unit.options[2].label}
    with pytest.raises(PlanError, match="does not say which channels stay"):
        apply_plan(model, space, Plan(choices))
    with pytest.raises(PlanError, match="the plan lists 1"):
        apply_plan(model, space, Plan(choices, {unit.name: (0,)}))
    with pytest.raises(PlanError, match="no option 'half'"):
        apply_plan(model, space, Plan({unit.name: "half"}))
    _, plan = apply_plan(model, space, Plan(choices, effects.kept(choices)))
    with pytest.raises(PlanError, match="another model"):
        rebuild(build("flatten"), plan.structure)
