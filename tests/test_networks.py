"""Networks as people have them: half the channels go, and what is left is smaller, exact, exported and rebuilt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from coldpress.cost.macs import macs_cost
from coldpress.cost.size import size_cost
from coldpress.network import first_tensor
from coldpress.plan import KEEP, Plan, Space
from coldpress.runtime import export
from coldpress.space import layer_shapes
from coldpress.structures import half_width, structural_plan
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.structure import rebuild
from tiny import as_if_trained, images, space_of


def body() -> nn.Module:
    return models.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1])


pytestmark = pytest.mark.slow


class TwoInputs(nn.Module):
    """A residual network beside a vector that is mixed into its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body = body()
        self.body.fc = nn.Identity()
        self.vector, self.head = nn.Linear(6, 512), nn.Linear(1024, 10)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        return self.head(torch.cat([self.body(x), torch.relu(self.vector(v))], 1))


class Tuple(nn.Module):
    """A residual network that returns its logits with its normalised ones."""

    def __init__(self) -> None:
        super().__init__()
        self.body = body()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.body(x)
        return logits, logits.softmax(1)


def torchvision(name: str) -> Callable[[], nn.Module]:
    extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return lambda: models.get_model(name, weights=None, **extra)


# by name: the factory, and the share of parameters that half the channels may leave
NETWORKS: dict[str, tuple[Callable[[], nn.Module], float]] = {
    "resnet18": (torchvision("resnet18"), 0.35),
    "resnet50": (torchvision("resnet50"), 0.35),
    "googlenet": (torchvision("googlenet"), 0.45),
    "densenet121": (torchvision("densenet121"), 0.45),
    "mobilenet_v2": (torchvision("mobilenet_v2"), 0.55),
    "mobilenet_v3_small": (torchvision("mobilenet_v3_small"), 0.45),
    "efficientnet_b0": (torchvision("efficientnet_b0"), 0.55),
    "vgg11_bn": (torchvision("vgg11_bn"), 0.35),
    "regnet_y_400mf": (torchvision("regnet_y_400mf"), 0.5),
    "convnext_tiny": (torchvision("convnext_tiny"), 0.65),
    "squeezenet1_1": (torchvision("squeezenet1_1"), 0.55),
    "two inputs": (TwoInputs, 0.5),
    "tuple": (Tuple, 0.35),
}


def inputs_of(name: str, count: int = 2) -> tuple[Tensor, ...]:
    return images(count, 64, vector=name == "two inputs")


def chosen(space: Space, plan: Plan) -> list[int]:
    return [unit.index(plan.choices.get(unit.name, KEEP)) for unit in space.units]


def check(name: str, model: nn.Module, space: Space, plan: Plan, fresh: nn.Module, path: Path) -> nn.Module:
    """Carry a plan out without data; costs, the exported file and the rebuilt network must agree with it."""
    inputs = inputs_of(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    student, plan = apply_plan(model, space, plan)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    counted = layer_shapes(student, inputs)
    weights = sum(shape.weights for shape in counted.values())
    macs, size = macs_cost(space), size_cost(space)
    assert macs.value(chosen(space, plan)) == pytest.approx(sum(s.macs for s in counted.values()), rel=1e-12)
    assert sum(s.weights for _, s in space.configured(plan.choices) if s is not None) == weights
    if not any(unit.kind == "rank" for unit in space.units):  # a factorised layer always gets a bias
        assert size.value(chosen(space, plan)) == pytest.approx(sum(s.bytes for s in counted.values()), rel=1e-12)
    export(student, inputs, path / "model.onnx")
    rebuild(fresh, Plan.from_json(plan.to_json()).structure)
    fresh.load_state_dict(student.state_dict())
    with torch.no_grad():
        assert torch.equal(first_tensor(fresh.eval()(*inputs)), first_tensor(student.eval()(*inputs)))
    return student


@pytest.mark.parametrize("name", NETWORKS)
def test_half_the_channels(name: str, tmp_path: Path) -> None:
    factory, share = NETWORKS[name]
    torch.manual_seed(0)
    model = as_if_trained(factory())
    space = space_of(model, inputs_of(name), "width")
    student = check(name, model, space, structural_plan(space, half_width(space)), factory(), tmp_path)
    left = sum(p.numel() for p in student.parameters()) / sum(p.numel() for p in model.parameters())
    assert left < share


def test_channel_shuffle_falls_back_to_ranks_and_bits(tmp_path: Path) -> None:
    factory = torchvision("shufflenet_v2_x1_0")
    model = as_if_trained(factory())
    space = space_of(model, inputs_of("shuffle"))
    assert {unit.kind for unit in space.units} >= {"rank", "bits"}
    assert space.refused
    ranks = {unit.name: unit.options[-1].label for unit in space.units if unit.kind == "rank"}
    plan = structural_plan(space, half_width(space) | ranks)
    student = check("shuffle", model, space, plan, factory(), tmp_path)
    assert sum(p.numel() for p in student.parameters()) < 0.8 * sum(p.numel() for p in model.parameters())
    bits = {unit.name: "int8" for unit in space.units if unit.kind == "bits"}
    size = size_cost(space)
    assert size.value(chosen(space, Plan(bits))) < 0.3 * size.value(chosen(space, Plan()))
