"""Attention and feed-forward parts of transformers go by themselves: what they add becomes a constant."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coldpress.cost.macs import macs_cost
from coldpress.energy.correlation import without_dead_choices
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

EXPORTED = ("BERT", "GPT-2", "Llama", "ViT")


def prepared(name: str) -> tuple[nn.Module, tuple[Tensor, ...], Space, dict[str, Moments]]:
    model, inputs = SUBJECTS[name]()
    torch.manual_seed(0)
    for key, parameter in model.named_parameters():
        if key.endswith("bias"):  # transformers begins with zeros
            nn.init.normal_(parameter, 0.0, 0.3)
    space = space_of(model, inputs, "depth")
    return model, inputs, space, collect_moments(model, [site.name for site in space.sites], inputs)


@pytest.mark.parametrize("name", SUBJECTS)
def test_attention_and_neurons_of_every_layer_go_by_themselves(name: str, tmp_path: Path) -> None:
    model, inputs, space, moments = prepared(name)
    assert len(space.branches) == 4
    for choices in ({list(space.branches)[2]: "drop"}, dict.fromkeys(space.branches, "drop")):
        small, plan = apply_plan(model, space, Plan(choices), moments=moments)
        wanted = copy.deepcopy(model)
        for part in choices:
            last = space.branches[part].last
            set_weight(wanted.get_submodule(last), constant_weight(model, last, moments))
        with evaluating(model), forwarding(model, Effects(model, space, moments).replacements(choices)):
            predicted = model(*inputs)
        fresh, _ = SUBJECTS[name]()
        rebuild(fresh, Plan.from_json(plan.to_json()).structure)
        fresh.load_state_dict(small.state_dict())
        with torch.no_grad():
            found = small(*inputs)
            torch.testing.assert_close(found, wanted(*inputs), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found, predicted, rtol=1e-5, atol=1e-5)
            assert not torch.allclose(found, model(*inputs), rtol=0, atol=1e-4)
            assert torch.equal(fresh(*inputs), found)
        rest = count_macs(model, inputs) - sum(site.shape.macs for site in space.sites)
        assert macs_cost(space, rest).value(space.indices(choices)) == count_macs(small, inputs)
    inner = [parameter for key, parameter in small.named_parameters() if re.search(r"\.\d\.", f".{key}")]
    assert inner
    assert all(parameter.dim() == 1 for parameter in inner)  # norms and constants
    if name in EXPORTED:
        file = session(export(small, inputs, tmp_path / "small.onnx"))
        told = run(file, [tensor.numpy() for tensor in inputs])[0]
        np.testing.assert_allclose(told, found.numpy(), rtol=1e-3, atol=1e-3)


class Layer(nn.Module):
    """The norm behind the sum: a mask, mixing of tokens in a module of two results, neurons."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = Mix()
        self.last = nn.Linear(8, 8)
        self.neurons = nn.Sequential(nn.Linear(8, 24), nn.GELU())
        self.down = nn.Linear(24, 8)
        self.first, self.second = nn.LayerNorm(8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        mixed, _ = self.mix(x)
        x = self.first(x + self.last(mixed))
        return self.second(x + self.down(self.neurons(x)))


class Mix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.value(x).cumsum(1), None


class Net(nn.Module):
    """Two such layers, and what has no sub-layers: neurons of whole samples, and some that others read too."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.layers = nn.LayerNorm(8), nn.ModuleList([Layer(), Layer()])
        self.up, self.narrow, self.wide = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(16, 8)
        self.whole, self.head = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x)
        read = self.up(x)
        x = (x + self.narrow(read)) * self.wide(read)
        x = x.mean(1)
        return self.head(x + self.whole(x))


def test_only_what_nothing_else_reads_may_go() -> None:
    model, inputs = Net().eval(), (torch.randn(4, 5, 8),)
    found = constant_branches(model, inputs)
    assert [branch.end for branch in found] == [f"layers.{i}.{end}" for i in (0, 1) for end in ("last", "down")]
    assert found[0].modules == ("layers.0.last", "layers.0.mix")
    assert [branch.last for branch in constant_branches(model, inputs, ["layers.0.mix.value", "layers.1"])] == [
        "layers.0.down"
    ]
    space = space_of(model, inputs, "width")
    assert not space.branches


def test_a_plan_has_one_description_and_is_refitted() -> None:
    model, inputs = Net().eval(), (torch.randn(256, 5, 8),)
    space = space_of(model, inputs, "depth", "width", "rank", "bits")
    cost = macs_cost(space)
    drop, layer = {"layers.1.down:depth": "drop"}, {"layers.1:depth": "drop"}
    neurons = {"layers.1.neurons.0:width": space.unit("layers.1.neurons.0:width").options[1].label}
    rounded = {"layers.1.neurons.0:bits": "int8"}
    assert cost.value(space.indices(drop)) == cost.value(space.indices({})) - 2 * 8 * 24 * 5
    for other in (layer, neurons, rounded):
        assert np.isfinite(cost.value(space.indices(other)))
        assert not np.isfinite(cost.value(space.indices(drop | other)))
        assert without_dead_choices(space, drop | other) == (layer if other is layer else drop)
    both = drop | {"layers.1.last:depth": "drop", "layers.0.last:depth": "drop"}
    assert np.isfinite(cost.value(space.indices(both)))
    moments = collect_moments(model, [site.name for site in space.sites], inputs)
    students = [apply_plan(model, space, Plan(both), moments=moments, calibration=c)[0] for c in (None, inputs)]
    with torch.no_grad():
        errors = [float((student(*inputs) - model(*inputs)).norm()) for student in students]
        assert errors[1] < errors[0]
        dropped, _ = apply_plan(model, space, Plan(both | layer))
        assert isinstance(dropped.get_submodule("layers.1"), nn.Identity)
        assert dropped(*inputs).shape == (256, 3)
