"""A whole network in few bits: as many as asked for on average, decided by energy, and near to the original."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from coldpress.artifact import load
from coldpress.errors import BudgetError, SurgeryError, TaskError
from coldpress.few_bits.choice import decide_forms, fitted_and_judges
from coldpress.few_bits.factors import factor_network
from coldpress.few_bits.network import Form, RoundedNetwork, packed_bytes, round_network
from coldpress.packed import pack_weights
from coldpress.surgery.round_layers import round_layers
from coldpress.task import Task
from tiny import as_if_trained

FEW = (Form(8), Form(4), Form(4, 0.5), Form(2))


class Blocks(nn.Module):
    """Two convolutions around a shortcut, a norm each, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.second, self.norm2 = nn.Conv2d(12, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm1(self.first(x)))
        x = torch.relu(x + self.norm2(self.second(x)))
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def task() -> Task:
    torch.manual_seed(0)
    model = as_if_trained(Blocks()).eval()
    x = torch.rand(320, 3, 8, 8)
    logits = model(x).detach()
    labels = (logits - logits.mean(0)).argmax(1)
    train = [(x[i : i + 64], labels[i : i + 64]) for i in range(0, 320, 64)]
    return Task(model, (x[:1],), train=train, hold_out=False)


def test_every_layer_holds_its_levels_times_scales(task: Task, tmp_path: Path) -> None:
    before = copy.deepcopy(task.model.state_dict())
    found = round_network(task, bits=4, calibration=64, refit_images=192, sweeps=4)
    assert list(found.layers) == ["first", "second", "head"]
    for name, layer in found.layers.items():
        torch.testing.assert_close(found.model.get_submodule(name).weight.flatten(1), layer.dequantized)
        assert -8 <= int(layer.levels.min()) <= int(layer.levels.max()) <= 7
    rows = {"first": (12, 27), "second": (12, 108), "head": (4, 12)}
    assert found.bytes == sum(-(-r * c * 4 // 8) + 4 * r for r, c in rows.values())
    assert found.average_bits == pytest.approx(8 * found.bytes / sum(r * c for r, c in rows.values()))
    assert all(torch.equal(before[name], value) for name, value in task.model.state_dict().items())
    pack_weights(found.model, found.layers, tmp_path / "packed", found.structure)
    loaded = load(tmp_path / "packed", Blocks).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in found.model.state_dict().items())


def test_the_search_with_a_re_fit_is_nearer_to_the_original_than_one_pass(task: Task) -> None:
    inputs = task.calibration(192)[0]
    forms = dict.fromkeys(("first", "second", "head"), Form(3))
    kl = {}
    for name, settings in (
        ("search", {}),
        ("one pass", {"sweeps": 0, "refine_scales": False, "damping": math.inf}),
    ):
        student = copy.deepcopy(task.model)
        round_layers(student, task.model, inputs, forms, **settings)
        wanted, got = task.model(*inputs).log_softmax(1), student(*inputs).log_softmax(1)
        kl[name] = (wanted.exp() * (wanted - got)).sum(1).mean().item()
    assert kl["search"] < kl["one pass"]


def test_bits_are_shared_out_within_the_average(task: Task) -> None:
    found = round_network(task, average_bits=4.0, forms=FEW, calibration=64, refit_images=192, sweeps=4)
    assert found.average_bits <= 4.0 + 1e-9
    assert len({form.label for form in found.forms.values()}) > 1
    assert found.decided is not None
    assert found.decided.solver["gap"] is not None
    assert found.bytes == sum(packed_bytes(found.layers[name], form) for name, form in found.forms.items())
    again = round_network(task, average_bits=4.0, forms=FEW, calibration=64, refit_images=192, sweeps=4)
    assert again.forms == found.forms
    assert all(torch.equal(again.layers[name].levels, layer.levels) for name, layer in found.layers.items())


def with_other_judges(task: Task) -> Task:
    """The same task, but that the calibration samples behind the first 192 are others."""
    parts = [(x if i < 3 else torch.rand(64, 3, 8, 8), labels) for i, (x, labels) in enumerate(task.train)]
    found = Task(task.model, task.example_inputs, train=parts, hold_out=False)
    one, other = (given.calibration(256)[0][0] for given in (task, found))
    assert torch.equal(one[:192], other[:192])
    assert not (one[192:] == other[192:]).all()
    return found


@pytest.mark.parametrize(
    "found_for",
    [
        lambda task: round_network(task, bits=3, calibration=64, refit_images=192, sweeps=2),
        lambda task: factor_network(task, 2, calibration=64, refit_images=192, rounds=0),
    ],
    ids=["rounded", "factors"],
)
def test_nothing_is_fitted_to_the_samples_that_judge(task: Task, found_for: Callable[[Task], RoundedNetwork]) -> None:
    one, other = found_for(task), found_for(with_other_judges(task))
    other_state = other.model.state_dict()
    assert all(torch.equal(tensor, other_state[name]) for name, tensor in one.model.state_dict().items())
    assert one.kl != other.kl


def test_forms_are_fitted_to_none_of_the_samples_that_judge_them(task: Task) -> None:
    one, other = (decide_forms(given, 4.0, 64, 192, forms=FEW).correlation for given in (task, with_other_judges(task)))
    assert one.separable == other.separable
    assert one.measured != other.measured


def test_of_few_samples_half_judge(task: Task) -> None:
    x, labels = task.train[0]

    def parts(count: int, judges: int, fitted: int) -> list[torch.Tensor]:
        given = Task(task.model, task.example_inputs, train=[(x[:count], labels[:count])], hold_out=False)
        return [tensor for part in fitted_and_judges(given, judges, fitted) for tensor in part]

    fitted, judges = parts(5, 64, 192)
    assert torch.equal(torch.cat([fitted, judges]), x[:5])
    assert (len(fitted), len(judges)) == (3, 2)
    with pytest.raises(TaskError, match="has 1 sample"):
        parts(1, 1, 1)


def test_what_cannot_be_is_told(task: Task) -> None:
    with pytest.raises(TaskError, match="either bits"):
        round_network(task)
    with pytest.raises(BudgetError, match="the least is"):
        round_network(task, average_bits=0.5, forms=FEW, calibration=64, refit_images=192)
    with pytest.raises(SurgeryError, match="'norm1' cannot be rounded"):
        round_layers(copy.deepcopy(task.model), task.model, task.calibration(64)[0], {"norm1": Form(4)})


@pytest.mark.parametrize(
    ("form", "bytes_of"),
    [(Form(4), 10 * 40 // 2 + 40), (Form(4, 0.5), 10 * 20 // 2 + 50 + 40), (Form(3, "2:4", 8), 75 + 50 + 200)],
)
def test_bytes_count_levels_places_and_scales(form: Form, bytes_of: int) -> None:
    assert form.bytes(10, 40) == bytes_of
