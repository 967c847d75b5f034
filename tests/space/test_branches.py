"""Attention and feed-forward parts of transformers go by themselves: what they add becomes a constant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coldpress.cost.factors import layer_cost
from coldpress.cost.macs import macs_cost
from coldpress.energy.correlation import random_plans, without_dead_choices
from coldpress.network import evaluating, forwarding
from coldpress.plan import Plan, Space
from coldpress.runtime import export, run, session
from coldpress.space.branches import constant_branches
from coldpress.space.layers import count_macs
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import Moments, collect_moments
from coldpress.surgery.refit import constant_weight, set_weight
from coldpress.surgery.structure import rebuild
from tiny import space_of

from .makes import SUBJECTS

Prepared = tuple[nn.Module, tuple[Tensor, ...], Space, dict[str, Moments]]


def prepared(name: str) -> Prepared:
    model, inputs = SUBJECTS[name]()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):  # transformers begins with zeros
                nn.init.normal_(parameter, 0.0, 0.3)
    space = space_of(model, inputs, "depth", "width")
    return model, inputs, space, collect_moments(model, [site.name for site in space.sites], inputs)


@pytest.mark.parametrize("name", SUBJECTS)
def test_attention_and_neurons_of_every_layer_go_by_themselves(name: str, tmp_path: Path) -> None:
    model, inputs, space, moments = prepared(name)
    assert len(space.branches) == 4
    unit = list(space.branches)[0 if name == "ViT" else 2]
    for choices in ({unit: "drop"}, dict.fromkeys(space.branches, "drop")):
        small, plan = apply_plan(model, space, Plan(choices), moments=moments)
        wanted, _ = SUBJECTS[name]()
        wanted.load_state_dict(model.state_dict())
        for part in choices:
            last = space.branches[part].last
            set_weight(wanted.get_submodule(last), constant_weight(model, last, moments))
        with torch.no_grad():
            torch.testing.assert_close(small(*inputs), wanted(*inputs), rtol=1e-5, atol=1e-5)
            assert not torch.allclose(small(*inputs), model(*inputs), atol=1e-3)
        with evaluating(model), forwarding(model, Effects(model, space, moments).replacements(choices)):
            torch.testing.assert_close(model(*inputs), small(*inputs), rtol=1e-5, atol=1e-5)
        macs = macs_cost(space, count_macs(model, inputs) - sum(site.shape.macs for site in space.sites))
        assert macs.value(space.indices(choices)) == count_macs(small, inputs) if len(choices) == 1 else True
        fresh, _ = SUBJECTS[name]()
        rebuild(fresh, Plan.from_json(plan.to_json()).structure)
        fresh.load_state_dict(small.state_dict())
        with torch.no_grad():
            assert torch.equal(fresh(*inputs), small(*inputs))
    left = [key for key in small.state_dict() if ".layer" in key or ".h." in key or key.startswith("blocks")]
    assert left
    assert all("norm" in key.lower() or "ln_" in key or key.endswith(".bias") for key in left)
    file = session(export(small, inputs, tmp_path / "small.onnx"))
    found = run(file, [tensor.numpy() for tensor in inputs])[0]
    np.testing.assert_allclose(found, small(*inputs).detach().numpy(), rtol=1e-3, atol=1e-3)
