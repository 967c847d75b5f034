"""The sequential re-fit: nothing to make up for changes nothing; what was lost is made up for."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import Tensor, nn

from coldpress.network import divergence, evaluating, first_tensor
from coldpress.plan import Plan
from coldpress.structures import half_width
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.effects import Effects
from coldpress.surgery.events import record, shortcuts
from coldpress.surgery.moments import collect_moments, input_rows, output_rows, second_moments
from coldpress.surgery.refit import dense_weight, refit
from coldpress.surgery.targets import Sums
from coldpress.zoo.cifar import CifarResNet
from tiny import NETWORKS, Projected, as_if_trained, build, images, inputs_of, space_of


def run(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    with evaluating(model):
        return first_tensor(model(*inputs))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_lost_nothing_stays_as_it_is(name: str) -> None:
    model, inputs = build(name), inputs_of(name, count=24)
    student = copy.deepcopy(model)
    refit(student, model, inputs, outputs={}, factored={})
    for given in (inputs, inputs_of(name, seed=8)):
        torch.testing.assert_close(run(student, given), run(model, given), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_after_pruning_the_loss_falls(name: str) -> None:
    model, inputs = build(name), inputs_of(name, count=48)
    space = space_of(model, inputs, "width")
    moments = collect_moments(model, [site.name for site in space.sites], inputs)
    choices = half_width(space)
    plan = Plan(choices, Effects(model, space, moments).kept(choices))
    told: list[tuple[int, int]] = []
    bare, _ = apply_plan(model, space, plan)
    plain, _ = apply_plan(model, space, plan, moments=moments)
    fitted, _ = apply_plan(
        model, space, plan, moments=moments, calibration=inputs, progress=lambda i, n: told.append((i, n))
    )
    assert told == [(i + 1, told[-1][1]) for i in range(len(told))]
    for given in (inputs, inputs_of(name, count=48, seed=8)):
        teacher = run(model, given)
        loss = divergence(teacher, run(fitted, given))
        assert loss < 0.7 * divergence(teacher, run(bare, given))
        if given is inputs:
            assert loss < divergence(teacher, run(plain, given))


def test_dropped_blocks_and_factors_are_made_up_for() -> None:
    model, inputs = build("padded shortcuts"), images(48)
    space = space_of(model, inputs, "rank", "depth")
    moments = collect_moments(model, [site.name for site in space.sites], inputs)
    choices = {"layer1.0:depth": "drop", "layer2.0.conv2:rank": "svd 8"}
    plain, _ = apply_plan(model, space, Plan(choices), moments=moments)
    fitted, plan = apply_plan(model, space, Plan(choices), moments=moments, calibration=inputs)
    assert plan.structure["layer1.0"] == {"kind": "identity"}
    assert plan.structure["layer2.0.conv2"]["kind"] == "factorized"
    teacher = run(model, inputs)
    assert divergence(teacher, run(fitted, inputs)) < 0.9 * divergence(teacher, run(plain, inputs))


def test_same_seed_same_weights() -> None:
    model, inputs = build("concatenation"), inputs_of("concatenation", count=16)
    space = space_of(model, inputs, "width")
    choices = half_width(space)
    plan = Plan(choices, Effects(model, space, {}).kept(choices))
    one, other = (apply_plan(model, space, plan, calibration=inputs, seed=3)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)


def found_in(model: nn.Module) -> dict[str, tuple[str, str | None]]:
    events = record(model, images(2))
    modules = dict(model.named_modules())
    layers = [name for name, m in modules.items() if isinstance(m, nn.Conv2d | nn.Linear)]
    norms = [name for name, m in modules.items() if isinstance(m, nn.BatchNorm2d)]
    found = shortcuts(events, layers, norms)
    return {events[call].name: (events[end.total].name, end.norm) for call, end in found.items()}


def test_sums_behind_torchvisions_blocks_are_found() -> None:
    found = found_in(as_if_trained(Projected()))
    assert {name: norm for name, (_, norm) in found.items()} == {
        "first.conv2": "first.bn2",
        "second.downsample.0": "second.downsample.1",  # it runs last, so it alone can make up for the branch
    }
    assert all(total in ("__iadd__", "add_", "__add__", "add") for total, _ in found.values())


def test_sums_behind_padded_shortcuts_are_found() -> None:
    found = found_in(as_if_trained(CifarResNet(2)))
    blocks = [f"layer{stage}.{i}" for stage in (1, 2, 3) for i in (0, 1)]
    assert {name: norm for name, (_, norm) in found.items()} == {f"{b}.conv2": f"{b}.bn2" for b in blocks}


@pytest.mark.parametrize("name", ["concatenation", "squeeze-excite", "flatten"])
def test_where_nothing_is_added_no_sum_is_found(name: str) -> None:
    assert found_in(build(name)) == {}


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 5, 3, stride=2, padding=1),
        nn.Conv2d(3, 5, (5, 3), padding=(2, 1), dilation=1, bias=False),
        nn.Conv2d(3, 5, 3, dilation=2, padding="same"),
        nn.Conv2d(3, 5, 1, stride=3),
    ],
)
def test_rows_times_weight_are_the_layers_outputs(layer: nn.Conv2d) -> None:
    (x,) = images(2, 11)
    with torch.no_grad():
        y = layer(x)
        positions = torch.arange(y[0, 0].numel())
        rows = input_rows(layer, x, positions)
        weight = dense_weight(layer).float()
        torch.testing.assert_close(
            rows @ weight[:, :-1].T + weight[:, -1], output_rows(layer, y, positions), atol=1e-5, rtol=1e-5
        )
    matrix = second_moments(rows).matrix
    assert float(matrix[-1, -1]) == pytest.approx(1.0)
    assert torch.linalg.eigvalsh(matrix)[0] > -1e-6


@pytest.mark.parametrize("options", [{"padding": 1, "padding_mode": "reflect"}, {"padding": "same"}])
def test_paddings_that_factors_cannot_repeat_are_left_alone(options: dict[str, str | int]) -> None:
    torch.manual_seed(0)
    padded = nn.Conv2d(16, 32, 4, **options)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), padded, nn.ReLU(), nn.Flatten(1), nn.Linear(32 * 36, 4))
    inputs = images(16, 9 if options["padding"] == 1 else 8)
    assert "2:rank" not in {unit.name for unit in space_of(model, inputs).units}
    assert "2" not in collect_moments(model, ["0", "2"], inputs)
    student = copy.deepcopy(model)
    refit(student, model, inputs, outputs={}, factored={})
    torch.testing.assert_close(run(student, inputs), run(model, inputs), atol=1e-4, rtol=1e-4)


class OnlyWherePadded(nn.Module):
    """Tokens whose network masks them only where there is something to mask, as libraries do."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.up, self.down = nn.Embedding(20, 8), nn.Linear(8, 32), nn.Linear(32, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        if not bool(mask.all()):
            x = (x * mask[:, :, None]).add(0.0)
        return self.head((x + self.down(torch.relu(self.up(x)))).mean(1))


def test_padding_that_only_some_samples_have_does_not_misplace_events() -> None:
    model = OnlyWherePadded().eval()
    ids = torch.randint(0, 20, (200, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[150:, 4:] = 0
    space = space_of(model, (ids, mask), "width")
    unit = space.unit("up:width")
    choices = {unit.name: unit.options[3].label}
    moments = collect_moments(model, [site.name for site in space.sites], (ids, mask))
    plan = Plan(choices, Effects(model, space, moments).kept(choices))
    error = []
    for calibration in (None, (ids, mask)):
        small, _ = apply_plan(model, space, plan, moments=moments, calibration=calibration)
        with torch.no_grad():
            error.append(float((small(ids, mask) - model(ids, mask)).norm()))
    assert error[1] < 1.05 * error[0]


def test_the_moments_of_one_layer_are_held_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: weakref.WeakSet[Sums] = weakref.WeakSet()

    class Counted(Sums):
        def __init__(self) -> None:
            super().__init__()
            alive.add(self)

    monkeypatch.setattr("coldpress.surgery.refit.Sums", Counted)
    model, held = build("concatenation"), []
    refit(
        copy.deepcopy(model),
        model,
        inputs_of("concatenation", 8),
        outputs={},
        factored={},
        fitted=lambda *_: held.append(len(alive)),
    )
    assert held == [1, 1, 1, 1]
