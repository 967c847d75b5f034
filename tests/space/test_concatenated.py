"""Parts whose channels are only concatenated may go whole: found, planned, carried out, exported, rebuilt."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from coldpress.cost import macs_cost, size_cost
from coldpress.energy.correlation import random_plans
from coldpress.plan import Plan, Space
from coldpress.problem import Energy, Problem
from coldpress.runtime.onnx import export
from coldpress.space.layers import count_macs
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import collect_moments
from coldpress.surgery.structure import rebuild
from tiny import space_of


class Dense(nn.Module):
    """A dense layer: reads the list of all before it."""

    def __init__(self, inputs: int, grown: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.narrow, self.wide = nn.Conv2d(inputs, 16, 1), nn.Conv2d(16, grown, 3, padding=1)

    def forward(self, before: list[Tensor]) -> Tensor:
        out: Tensor = self.wide(self.narrow(self.norm(torch.cat(before, 1)).relu()).relu())
        return out


class Net(nn.Module):
    """A stem, three dense layers, and two branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.dense = nn.ModuleList(Dense(16 + 8 * i, 8) for i in range(3))
        self.short = nn.Conv2d(40, 8, 1)
        self.long = nn.Sequential(nn.Conv2d(40, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1))
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.stem(x)]
        for layer in self.dense:
            found.append(layer(found))
        both = torch.cat(found, 1)
        joined = torch.cat([self.short(both), self.long(both)], 1).relu()
        out: Tensor = self.head(joined.mean((2, 3)))
        return out


PARTS = {f"dense.{i}.wide:width": f"dense.{i}" for i in range(3)} | {"short:width": "short"}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    return torch.randn(48, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def space(net: nn.Module, inputs: Tensor) -> Space:
    return space_of(net, (inputs[:2],), "width", "rank", "bits", "depth")


def test_parts_are_found_and_of_branches_the_widest_stays(space: Space) -> None:
    assert {name: group.block for name, group in space.groups.items() if group.block} == PARTS
    for name in PARTS:
        assert [option.label for option in space.unit(name).options].count("drop") == 1
        assert space.unit(name).options[-1].channels == 0
    only = space_of(Net().eval(), (torch.zeros(2, 3, 8, 8),), "width")
    assert not any(option.drop for unit in only.units for option in unit.options)
    kept = space_of(Net().eval(), (torch.zeros(2, 3, 8, 8),), "width", "depth", ignored=("dense.1",))
    # dense.0 is read by dense.1.norm
    assert {group.block for group in kept.groups.values()} == {"", "dense.2", "short"}


class Joined(nn.Module):
    """What two parts make of the same input, side by side."""

    def __init__(self, left: nn.Module, right: nn.Module, named: bool = False) -> None:
        super().__init__()
        self.left, self.right, self.named = left, right, named

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(input=x) if self.named else self.left(x)
        return torch.cat([left, functional.adaptive_avg_pool2d(self.right(x), left.shape[2:])], 1)


def conv(inputs: int, outputs: int, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def parts_of(body: nn.Module, channels: int) -> set[str]:
    torch.manual_seed(0)
    head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))
    space = space_of(nn.Sequential(body, head).eval(), (torch.randn(2, 3, 8, 8),), "width", "depth")
    return {group.block for group in space.groups.values()} - {""}


def test_parts_that_cannot_go_are_not_offered() -> None:
    assert parts_of(Joined(conv(3, 8), conv(3, 16)), 24) == {"0.left"}
    assert parts_of(Joined(nn.Sequential(conv(3, 8)), conv(3, 16), named=True), 24) == {"0.left"}
    # what would take the left one's place has another size, and the right one is pooled to it
    assert parts_of(Joined(conv(3, 8, stride=2), conv(3, 16)), 24) == {"0.right"}


def test_no_part_holds_another_or_what_is_used_elsewhere() -> None:
    inner = nn.Sequential(Joined(conv(3, 4), conv(3, 8)), conv(12, 8))
    assert parts_of(Joined(inner, conv(3, 16)), 24) == {"0.left.0.left", "0.left.1"}
    both = conv(3, 6)
    assert parts_of(Joined(nn.Sequential(both, conv(6, 8)), nn.Sequential(both, conv(6, 16))), 24) <= {"0.left.1"}


def carried_out(
    net: nn.Module, space: Space, choices: dict[str, str], x: Tensor, refit: bool
) -> tuple[nn.Module, Plan]:
    moments = collect_moments(net, [site.name for site in space.sites], [x]) if refit else {}
    effects = Effects(net, space, moments)
    plan = Plan(choices, effects.kept(choices))
    return apply_plan(net, space, plan, moments=moments or None, calibration=[x] if refit else None)


@pytest.mark.parametrize("names", [("dense.1.wide:width",), tuple(PARTS), ("short:width", "dense.0.wide:width")])
def test_what_goes_is_gone_and_the_rest_computes_as_without_it(
    net: nn.Module, space: Space, inputs: Tensor, names: tuple[str, ...], tmp_path: Path
) -> None:
    choices = dict.fromkeys(names, "drop")
    student, plan = carried_out(net, space, choices, inputs, refit=False)
    effects = Effects(net, space, {})
    masked = copy.deepcopy(net)
    for name, changed in effects.replacements(choices).items():
        masked.get_submodule(name).forward = changed  # type: ignore[method-assign]
    with torch.no_grad():
        wanted, found = masked(inputs), student(inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    blocks = [PARTS[name] for name in names]
    assert all(not list(student.get_submodule(block).parameters()) for block in blocks)

    costs = {cost.name: cost for cost in (macs_cost(space), size_cost(space))}
    choice = space.indices(choices)
    assert costs["macs"].value(choice) == count_macs(student, (inputs[:1],))
    again = Net()
    rebuild(again, Plan.from_json(plan.to_json()).structure)
    again.load_state_dict(student.state_dict())
    torch.testing.assert_close(again.eval()(inputs), found)

    path = export(student, (inputs[:1],), tmp_path / "net.onnx")
    graph = onnx.load(path).graph
    left = {node.name for node in graph.node if node.op_type in ("Conv", "Gemm")}
    assert left == {site.name for site, shape in space.configured(choices) if shape is not None}
    assert not any(node.op_type == "Slice" for node in graph.node)


def test_the_rest_is_refitted_for_what_went(net: nn.Module, space: Space, inputs: Tensor) -> None:
    choices = {"dense.1.wide:width": "drop", "long.0:width": "8/16"}
    with torch.no_grad():
        wanted = net(inputs)
        errors = [
            float((carried_out(net, space, choices, inputs, refit)[0](inputs) - wanted).square().mean())
            for refit in (False, True)
        ]
    assert errors[1] < 0.5 * errors[0]


def test_what_is_decided_within_a_part_that_goes_has_one_description(space: Space) -> None:
    energy = Energy(np.zeros((sum(space.sizes),) * 2), np.zeros(sum(space.sizes)))
    problem = Problem(space, energy, {"macs": macs_cost(space)})
    gone = {"dense.1.wide:width": "drop"}
    assert problem.allowed(space.indices(gone))
    assert not problem.allowed(space.indices(gone | {"dense.1.narrow:width": "8/16"}))
    assert problem.allowed(space.indices(gone | {"dense.0.wide:width": "drop", "long.0:width": "8/16"}))
    widths = space_of(Net().eval(), (torch.zeros(2, 3, 8, 8),), "width", "depth")
    cost = macs_cost(widths)
    plans = random_plans(widths, 40, seed=3, most=1.0)
    assert any(widths.dropped(choices) for choices in plans)
    assert all(np.isfinite(cost.value(widths.indices(choices))) for choices in plans)
