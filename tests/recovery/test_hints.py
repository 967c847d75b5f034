"""Hints compare what a compressed network's streams carry with what the original's carry, channel by channel."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock

from coldpress.errors import TaskError
from coldpress.plan import Plan
from coldpress.recovery import Epoch, Settings, distil, stream_inputs
from coldpress.recovery.hints import Hints
from coldpress.space import find_space
from coldpress.surgery.apply import apply_plan
from coldpress.task import Task
from tiny import Projected, as_if_trained, conv, images


def network() -> nn.Module:
    torch.manual_seed(0)
    return as_if_trained(Projected()).eval()


def task_of(model: nn.Module) -> Task:
    (x,) = images(64, seed=1)
    logits = model(x).detach()
    labels = (logits - logits.mean(0)).argmax(1)
    train = [(x[i : i + 16], labels[i : i + 16]) for i in range(0, 64, 16)]
    return Task(model, images(1)[0], train=train, hold_out=False)


def halved(model: nn.Module, task: Task) -> tuple[nn.Module, Plan, dict[str, torch.Tensor]]:
    space = find_space(task, ("width",))
    kept = {u.name: tuple(range(1, space.groups[u.name].channels, 2)) for u in space.units}
    choices = {u.name: next(o.label for o in u.options if o.channels == len(kept[u.name])) for u in space.units}
    student, plan = apply_plan(model, space, Plan(choices, kept))
    return student, plan, stream_inputs(space, plan)


def test_hints_name_the_layers_that_read_a_stream_with_the_channels_that_remain() -> None:
    model = network()
    task = task_of(model)
    student, _, hints = halved(model, task)
    assert hints
    for name, rows in hints.items():
        assert len(rows) == student.get_submodule(name).get_parameter("weight").shape[1]
        assert rows.tolist() == sorted(set(rows.tolist()))


def test_a_network_is_at_no_distance_from_itself_and_at_some_from_another() -> None:
    model = network()
    hints = stream_inputs(find_space(task_of(model), ("width",)), Plan())
    student = copy.deepcopy(model)
    with Hints(student, model, hints) as inside:
        student.training = True  # hints are taken while a student trains; its BatchNorms stay as they are
        x = images(8, seed=2)[0]
        student(x), model(x)
        assert float(torch.as_tensor(inside.distance()).detach()) == 0.0
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.mul_(1.1)
        student(x), model(x)
        assert float(torch.as_tensor(inside.distance()).detach()) > 1e-4
    student(x)
    assert inside.distance() == 0.0  # nothing is kept after the context


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
def test_the_distance_and_its_gradient_are_those_of_the_formula(dtype: torch.dtype, near: float) -> None:
    generator = torch.Generator().manual_seed(3)
    seen, wanted = (torch.randn(4, 6, 5, 5, generator=generator).to(dtype) for _ in range(2))
    student, teacher = nn.Sequential(nn.Identity()), nn.Sequential(nn.Identity())
    seen.requires_grad_(True)
    with Hints(student, teacher, {"0": torch.arange(6)}) as inside:
        student(seen)
        teacher(wanted)
        found = inside.distance()
    assert isinstance(found, torch.Tensor)
    found.backward()
    exact = seen.detach().double().requires_grad_(True)
    formula = (exact - wanted.double()).square().mean() / wanted.double().square().mean()
    formula.backward()
    assert seen.grad is not None
    assert exact.grad is not None
    assert seen.grad.dtype is dtype
    torch.testing.assert_close(found.double(), formula, rtol=near, atol=0.0)
    torch.testing.assert_close(seen.grad.double(), exact.grad, rtol=near, atol=near * float(exact.grad.abs().max()))


def test_training_with_hints_keeps_the_streams_closer_than_training_without() -> None:
    model = network()
    task = task_of(model)
    student, _, hints = halved(model, task)
    found = []
    for weight in (0.0, 1.0):
        trained = copy.deepcopy(student)
        distil(trained, model, task, Settings(epochs=10, lr=0.02), hints=hints, hint_weight=weight)
        with Hints(trained, model, hints) as inside, torch.no_grad():
            trained.training = True
            x = images(32, seed=3)[0]
            trained(x), model(x)
            found.append(float(inside.distance()))
    assert found[1] < 0.5 * found[0]


def narrow() -> nn.Module:
    """A network of the same modules whose stream has six channels that are none of the teacher's."""
    torch.manual_seed(1)
    student = Projected()
    student.stem, student.first = conv(3, 6), BasicBlock(6, 6)
    downsample = nn.Sequential(nn.Conv2d(6, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
    student.second = BasicBlock(6, 16, 2, downsample)
    return as_if_trained(student)


PROJECTED = {"second": None, "head": torch.arange(16)}


def test_a_stream_of_another_width_is_projected_by_a_map_that_is_learned_and_thrown_away() -> None:
    teacher = network()
    task, found = task_of(teacher), []
    for weight in (0.0, 2.0):
        student = narrow()
        names = set(student.state_dict())
        distil(student, teacher, task, Settings(epochs=15, lr=0.02), hints={"second": None}, hint_weight=weight)
        assert set(student.state_dict()) == names
        seen, wanted = (record(model, "second") for model in (student, teacher))
        solution = torch.linalg.lstsq(seen, wanted).solution
        found.append(float((seen @ solution - wanted).square().mean() / wanted.square().mean()))
    assert found[1] < 0.75 * found[0]


def record(model: nn.Module, name: str) -> torch.Tensor:
    """What a module reads, ``(positions, channels)``."""
    kept: list[torch.Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    with torch.no_grad():
        model(images(32, seed=3)[0])
    handle.remove()
    return kept[0].movedim(1, -1).flatten(0, -2)


def test_a_stopped_run_goes_on_with_the_maps_that_it_had_learned(tmp_path: Path) -> None:
    teacher = network()
    task, settings = task_of(teacher), Settings(epochs=3, lr=0.02, optimizer="adamw")
    found = []

    def stop(point: Epoch) -> None:
        if point.epoch == 2 and not found:
            raise KeyboardInterrupt

    def train(place: Path | None, **more: Any) -> list[torch.Tensor]:
        student = narrow()
        distil(student, teacher, task, settings, hints=PROJECTED, hint_weight=1.0, checkpoint_dir=place, **more)
        return list(student.state_dict().values())

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, on_epoch=stop)
    assert all(torch.equal(a, b) for a, b in zip(train(tmp_path), train(None)))


def test_what_cannot_be_projected_is_told() -> None:
    teacher, student = network(), narrow()
    with pytest.raises(TaskError, match="third"):
        distil(student, teacher, task_of(teacher), Settings(epochs=1), hints={"third": None})
    student.stem = conv(3, 6, stride=2)
    with pytest.raises(TaskError, match="only channels can be projected"):
        distil(student, teacher, task_of(teacher), Settings(epochs=1), hints={"first": None})


def test_a_negative_weight_is_refused() -> None:
    model = network()
    with pytest.raises(TaskError, match="hint_weight"):
        distil(copy.deepcopy(model), model, task_of(model), Settings(epochs=1), hints={}, hint_weight=-1.0)


def test_what_reads_heads_gated_neurons_or_a_table_reads_no_stream() -> None:
    transformers = pytest.importorskip("transformers", reason="needs the extra coldpress[hf]")
    from coldpress.zoo.huggingface import TextModel

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=3000,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
    )
    model = TextModel(transformers.LlamaForSequenceClassification(config)).eval()
    ids = torch.randint(5, 3000, (2, 6))
    task = Task(model, (ids, torch.ones_like(ids)))
    space = find_space(task)
    assert any(site.shape.kind == "embedding" for site in space.sites)
    layers = "model.model.layers.0"
    found = {name for name in stream_inputs(space, Plan({})) if name.startswith((layers, "model.model.embed"))}
    assert found == {f"{layers}.self_attn.{n}_proj" for n in "qkv"} | {f"{layers}.mlp.{n}_proj" for n in ("gate", "up")}
