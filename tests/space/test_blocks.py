"""Blocks that may be dropped are exactly those that are the identity once their branch is silent."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from coldpress.network import evaluating, forwarding, replace_module
from coldpress.plan import Plan
from coldpress.space import residual_blocks
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.effects import Effects
from coldpress.surgery.events import opaque_modules, record, watching
from coldpress.surgery.moments import collect_moments
from coldpress.surgery.structure import Dropped, rebuild
from coldpress.zoo.cifar import CifarResNet
from tiny import as_if_trained, build, images, inputs_of, space_of


def droppable_in_resnet18() -> set[str]:
    return {"layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"}


def test_resnet18() -> None:
    model = as_if_trained(models.resnet18(weights=None))
    found = residual_blocks(model, images(2, 32))
    assert set(found) == droppable_in_resnet18()


def test_hardly_any_signal_is_no_shortcut() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.one(x), self.two(x)], 1)

    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), Branches(), nn.Flatten(), nn.Linear(8 * 256, 5)).eval()
    model[0].weight.data *= 1e-9
    model[0].bias.data *= 0.0
    assert residual_blocks(model, images(2)) == ()


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


def test_a_block_that_hands_on_its_input_computes_what_the_network_without_it_does() -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    assert residual_blocks(model, inputs) == ("first",)
    dropped, events = copy.deepcopy(model), []
    replace_module(dropped, "first", Dropped())
    with watching(
        model, opaque_modules(model), lambda _, name, *__: events.append(name), dropped={"first": False}
    ) as run:
        found = run(*inputs)
    with torch.no_grad():
        torch.testing.assert_close(found, dropped(*inputs), atol=1e-6, rtol=1e-6)
        assert not torch.allclose(found, model(*inputs), atol=1e-3)
    assert events == [event.name for event in record(model, inputs)]


class PostNorm(nn.Module):
    """A transformer's half: norms behind the sums, a mask beside the input."""

    def __init__(self, wide: int = 32) -> None:
        super().__init__()
        self.mix, self.up, self.down = nn.Linear(16, 16), nn.Linear(16, wide), nn.Linear(wide, 16)
        self.first, self.second = nn.LayerNorm(16), nn.LayerNorm(16)
        for norm in (self.first, self.second):
            nn.init.normal_(norm.weight, 1.0, 0.3)
            nn.init.normal_(norm.bias, 0.0, 0.3)

    def forward(self, x: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
        x = self.first(x + scale * self.mix(x * mask))
        return self.second(x + self.down(torch.relu(self.up(x))))


class Encoder(nn.Module):
    """Two such blocks, and one that forgets its input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.blocks = nn.LayerNorm(16), nn.ModuleList([PostNorm(), PostNorm()])
        self.forgets = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16))
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        for block in self.blocks:
            x = block(x, torch.ones_like(x), scale=0.5)
        return self.head(self.forgets(x).mean(1))


def test_blocks_with_the_norm_behind_the_sum_are_dropped_with_it() -> None:
    model, inputs = Encoder().eval(), (torch.randn(64, 4, 16),)
    assert residual_blocks(model, inputs) == ("blocks.0", "blocks.1")
    space = space_of(model, inputs, "depth", "width")
    choices = {"blocks.1:depth": "drop"}
    moments = collect_moments(model, [site.name for site in space.sites], inputs)
    with evaluating(model), forwarding(model, Effects(model, space, moments).replacements(choices)):
        predicted = model(*inputs)
    plain, _ = apply_plan(model, space, Plan(choices))
    torch.testing.assert_close(plain(*inputs), predicted)
    student, plan = apply_plan(model, space, Plan(choices), moments=moments, calibration=inputs)
    error = [float((network(*inputs) - model(*inputs)).detach().norm()) for network in (plain, student)]
    assert error[1] < 0.5 * error[0]
    fresh = Encoder()
    rebuild(fresh, plan.structure)
    fresh.load_state_dict(student.state_dict())
    torch.testing.assert_close(fresh.eval()(*inputs), student(*inputs))
