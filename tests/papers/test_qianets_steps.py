"""QIANets' steps: the public code's change no file, the corrected ones shrink the network and keep what they can."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from coldpress.errors import SurgeryError
from coldpress.network import evaluating
from coldpress.papers.qianets_scores import fisher_scores
from coldpress.papers.qianets_steps import as_published, attended_blocks, corrected, factorise, zeroed
from coldpress.runtime.onnx import export
from coldpress.runtime.sessions import run, session
from coldpress.space.layers import count_macs
from coldpress.space.rank_rules import named_rule
from coldpress.surgery.eca import ECA
from coldpress.surgery.factorize import Factorized
from coldpress.surgery.structure import describe_changes, rebuild
from coldpress.task import Task
from coldpress.zoo import model as zoo_model
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


def test_convolutions_of_one_pixel_become_two_where_that_pays() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(32, 64, 1), nn.ReLU(), nn.Conv2d(64, 6, 1), nn.ReLU(), nn.Conv2d(6, 6, 1, groups=2))
    inputs = (torch.randn(8, 32, 4, 4),)
    assert factorise(model, inputs, inputs, rank=8) == ["0"]  # of the others the rank is full, or they have groups
    assert [tuple(part.weight.shape) for part in model[0]] == [(8, 32, 1, 1), (64, 8, 1, 1)]


@pytest.mark.parametrize("name", ["projected shortcuts", "depthwise and grouped"])
def test_the_public_code_takes_nothing_or_everything(name: str) -> None:
    model, inputs = build(name), inputs_of(name)
    none, alone = (as_published(model, 0.0, rank=4, entanglement=share).state_dict() for share in (0.0, 1.0))
    assert all(torch.equal(tensor, alone[key]) for key, tensor in none.items())  # where none goes, none goes along
    student = as_published(model, 1.0, rank=4)
    for key, module in student.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert float(module.weight.detach().norm()) < 0.05 * float(model.get_submodule(key).weight.detach().norm())
    with evaluating(student):
        assert bool(student(*inputs).isfinite().all())


def test_the_public_code_takes_zeros_groups_and_dilation() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=4), nn.Conv2d(8, 6, 3, dilation=2)).eval()
    nn.init.zeros_(model[0].weight)
    student = as_published(model, 0.3, rank=3)
    assert float(student[0].weight.detach().abs().max()) < 1e-2
    assert [part.weight.shape for part in student] == [part.weight.shape for part in model]
    assert bool(student(torch.randn(2, 4, 16, 16)).isfinite().all())


def test_all_weights_may_be_zero() -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    student = zeroed(model, inputs, inputs, 1.0, attention=False)
    for module in student.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            assert not module.weight.any()
    with evaluating(student):
        torch.testing.assert_close(student(*inputs), student.head.bias.expand(len(inputs[0]), -1))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "blocks"), [("googlenet", 9), ("densenet121", 4)])
def test_large_networks_are_shrunk_exported_and_rebuilt(name: str, blocks: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, inputs = zoo_model(f"torchvision:{name}", 10).eval(), (torch.randn(8, 3, 32, 32),)
    student = corrected(model, inputs, inputs, 0.3, rank=16)
    assert parameters(student) < 0.6 * parameters(model)
    assert sum(isinstance(module, ECA) for module in student.modules()) == blocks
    for module in student.modules():
        if isinstance(module, ECA):
            nn.init.normal_(module.conv.weight)
    file = export(student, inputs, tmp_path / "model.onnx")
    fresh = zoo_model(f"torchvision:{name}", 10)
    rebuild(fresh, describe_changes(model, student))
    fresh.load_state_dict(student.state_dict())
    with evaluating(student), evaluating(fresh):
        wanted = student(*inputs)
        assert torch.equal(fresh(*inputs), wanted)
    found = torch.from_numpy(run(session(file), [inputs[0].numpy()])[0])
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
    scores = fisher_scores(Task(model, inputs, train=[(inputs[0], torch.arange(8))], hold_out=False), 8)
    assert all(bool((own >= 0.0).all()) and float(own.max()) > 0.0 for own in scores.values())


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
