"""QIANets' steps: the public code's change no file, the corrected ones shrink the network and keep what they can."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

from coldpress.errors import SurgeryError
from coldpress.papers.qianets_steps import as_published, attended_blocks, corrected, factorise
from coldpress.space.layers import count_macs
from coldpress.space.rank_rules import named_rule
from coldpress.surgery.eca import ECA
from coldpress.surgery.factorize import Factorized
from tiny import build, inputs_of


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_the_public_code_keeps_every_shape_and_loses_what_was_learned() -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    student = as_published(model, 0.3, rank=4)
    assert [p.shape for p in student.parameters()] == [p.shape for p in model.parameters()]
    assert count_macs(student, inputs) == count_macs(model, inputs)
    for module in student.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            matrix = module.weight.detach().flatten(1).double()
            assert int(torch.linalg.matrix_rank(matrix, rtol=1e-4)) <= 4
    kept = student.get_submodule("head").weight.norm() / model.get_submodule("head").weight.norm()
    assert kept < 0.5  # the factorisation stops near its random start


def test_corrected_steps_shrink_the_network_for_good() -> None:
    torch.manual_seed(0)
    model, inputs = torchvision.models.resnet18(num_classes=10).eval(), (torch.randn(4, 3, 32, 32),)
    student = corrected(model, inputs, inputs, 0.4, rank=16)
    assert parameters(student) < 0.4 * parameters(model)
    assert count_macs(student, inputs) < 0.6 * count_macs(model, inputs)
    assert sum(isinstance(module, ECA) for module in student.modules()) == 8
    assert any(isinstance(module, Factorized) for module in student.modules())
    with torch.no_grad():
        assert student(*inputs).shape == (4, 10)


def test_nothing_asked_for_changes_nothing() -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    student = corrected(model, inputs, inputs, 0.0, rank=1000, attention=False)
    assert [p.shape for p in student.parameters()] == [p.shape for p in model.parameters()]


def test_what_cannot_be_done_is_said(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    student = corrected(model, inputs, inputs, 1.0, rank=1000, attention=False)
    assert "sparsity 1 is more than can go: every group keeps at least one channel" in caplog.text
    assert "nothing is factorised: no layer is smaller with factors of rank 1000" in caplog.text
    assert "rank 1000 is above the full rank of" in caplog.text
    assert "left whole" in caplog.text
    assert parameters(student) < parameters(model)
    alone = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    corrected(alone, (torch.randn(4, 12),), (torch.randn(4, 12),), 0.5, rank=None, attention=False)
    assert "nothing is pruned: this network has no channels that can go" in caplog.text


def test_a_published_rank_above_full_is_cut_and_said(caplog: pytest.LogCaptureFixture) -> None:
    layers = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 5))
    as_published(layers, 0.1, rank=6)
    assert "rank 6 is above the full rank of 2 (5): cut to it" in caplog.text


def test_factors_of_a_low_rank_layer_compute_what_it_did() -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    layer = next(name for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 1000)
    weight = model.get_submodule(layer).weight
    with torch.no_grad():
        u, s, v = torch.linalg.svd(weight.flatten(1), full_matrices=False)
        weight.copy_(((u[:, :2] * s[:2]) @ v[:2]).reshape(weight.shape))
        before = model(*inputs)
    only = copy.deepcopy(model)
    names = factorise(only, inputs, inputs, rank=2)
    assert layer in names
    for name in names:
        if name != layer:  # the others lose something: put them back
            parent, _, last = name.rpartition(".")
            setattr(only.get_submodule(parent), last, model.get_submodule(name))
    with torch.no_grad():
        torch.testing.assert_close(only(*inputs), before, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("rule", ["energy:0.6", "evbmf"])
def test_a_rule_tells_the_rank_of_each_layer(rule: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(60, 64), nn.ReLU(), nn.Linear(64, 64)).eval()
    with torch.no_grad():
        for layer, rank in ((model[0], 2), (model[2], 9)):
            layer.weight.copy_(layer.weight * 0.05 + torch.randn(64, rank) @ torch.randn(rank, layer.in_features))
    wanted = {name: named_rule(rule)(model.get_submodule(name).weight) for name in ("0", "2")}
    inputs = (torch.randn(8, 60),)
    assert factorise(model, inputs, inputs, named_rule(rule)) == ["0", "2"]
    assert {name: model.get_submodule(name)[0].out_features for name in wanted} == wanted
    assert wanted["0"] < wanted["2"]


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "densenet121"])
def test_blocks_for_attention_are_found(name: str) -> None:
    arguments = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = torchvision.models.get_model(name, weights=None, **arguments)
    assert len(attended_blocks(model)) == {"resnet18": 8, "googlenet": 9, "densenet121": 4}[name]


def test_bad_amounts_are_refused() -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    with pytest.raises(SurgeryError, match="sparsity"):
        corrected(model, inputs, inputs, 1.5, rank=4)
    with pytest.raises(SurgeryError, match="rank"):
        as_published(model, 0.5, rank=0)
    with pytest.raises(SurgeryError, match="entanglement"):
        as_published(model, 0.5, rank=4, entanglement=2.0)
    with pytest.raises(SurgeryError, match="nothing to prune"):
        as_published(nn.ReLU(), 0.5, rank=4)
