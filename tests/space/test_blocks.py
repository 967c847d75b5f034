"""Blocks that may be dropped are exactly those that are the identity once their branch is silent."""

from __future__ import annotations

import copy

import pytest
import torch
from torchvision import models

from coldpress.space import residual_blocks
from coldpress.surgery.apply import replace_module, silence
from coldpress.zoo.cifar import CifarResNet
from tiny import as_if_trained, build, images, inputs_of


def droppable_in_resnet18() -> set[str]:
    return {"layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"}


def test_resnet18() -> None:
    model = as_if_trained(models.resnet18(weights=None))
    found = residual_blocks(model, images(2, 32))
    assert set(found) == droppable_in_resnet18()


def test_mobilenet_v2() -> None:
    model = as_if_trained(models.mobilenet_v2(weights=None))
    wanted = {name for name, module in model.named_modules() if getattr(module, "use_res_connect", False)}
    assert set(residual_blocks(model, images(2, 32))) == wanted
    assert len(wanted) == 10


def test_cifar_resnet() -> None:
    model = as_if_trained(CifarResNet(2))
    assert set(residual_blocks(model, images(2))) == {"layer1.0", "layer1.1", "layer2.1", "layer3.1"}


@pytest.mark.parametrize("name", ["concatenation", "squeeze-excite", "flatten", "shuffle"])
def test_networks_without_shortcuts_have_none(name: str) -> None:
    assert residual_blocks(build(name), inputs_of(name)) == ()


def test_a_silenced_block_computes_what_the_network_without_it_does() -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    assert residual_blocks(model, inputs) == ("first",)
    silent, dropped = copy.deepcopy(model), copy.deepcopy(model)
    silence(silent.get_submodule("first"))
    replace_module(dropped, "first", torch.nn.Identity())
    with torch.no_grad():
        torch.testing.assert_close(silent(*inputs), dropped(*inputs), atol=1e-6, rtol=1e-6)
        assert not torch.allclose(silent(*inputs), model(*inputs), atol=1e-3)
