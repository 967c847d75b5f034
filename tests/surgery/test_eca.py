"""Channel attention: the kernel rule, no change at the start, its cost, exported as eager, scores by channel."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from coldpress.errors import PlanError, SurgeryError
from coldpress.runtime.onnx import export
from coldpress.space import channel_groups
from coldpress.space.layers import count_macs, layer_shapes
from coldpress.surgery.channels import remove_channels
from coldpress.surgery.eca import ECA, eca_importance, eca_kernel, eca_scores, insert_eca
from coldpress.surgery.structure import describe_changes, rebuild
from tiny import build, inputs_of

BLOCKS = ("first", "second")


def shaken(model: nn.Module) -> None:
    """Attention as if trained."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, ECA):
            nn.init.normal_(module.conv.weight, generator=generator)


@pytest.mark.parametrize("channels", [2, 3, 4, 16, 48, 64, 100, 128, 256, 1000, 2048])
def test_the_kernel_is_the_nearest_odd_number(channels: int) -> None:
    kernel, wanted = eca_kernel(channels), abs(math.log2(channels) / 2 + 0.5)
    assert kernel % 2 == 1
    assert abs(kernel - wanted) <= 1.0


def test_nothing_changes_until_it_is_trained() -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    with torch.no_grad():
        before = model(*inputs)
        made = insert_eca(model, BLOCKS, inputs)
        torch.testing.assert_close(model(*inputs), before)
    model(*inputs).square().sum().backward()
    assert set(made) == set(BLOCKS)
    for eca in made.values():
        assert eca.conv.weight.grad is not None
        assert float(eca.conv.weight.grad.abs().max()) > 0.0


def test_channels_are_scaled_by_what_their_neighbours_say() -> None:
    eca = ECA(3)
    shaken(eca)
    x = torch.randn(2, 5, 4, 3)
    taps, means = eca.conv.weight.detach().ravel(), nn.functional.pad(x.mean((2, 3)), (1, 1))
    wanted = torch.stack([2 * torch.sigmoid(means[:, c : c + 3] @ taps) for c in range(5)], dim=1)
    torch.testing.assert_close(eca(x), x * wanted[:, :, None, None])


def test_its_cost_is_counted() -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    macs = count_macs(model, inputs)
    made = insert_eca(model, BLOCKS, inputs, kernel=5)
    assert count_macs(model, inputs) == macs + 5 * 8 + 5 * 16
    shapes = layer_shapes(model, inputs)
    assert [shapes[f"{name}.1.conv"].bytes for name in made] == [20, 20]


def test_exported_equals_eager(tmp_path: Path) -> None:
    from onnxruntime import InferenceSession

    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    insert_eca(model, BLOCKS, inputs)
    shaken(model)
    export(model, inputs, tmp_path / "model.onnx")
    session = InferenceSession(tmp_path / "model.onnx")
    found = session.run(None, {session.get_inputs()[0].name: inputs[0].numpy()})[0]
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), model(*inputs), atol=1e-5, rtol=1e-4)


def test_scores_are_the_mean_scales() -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    insert_eca(model, BLOCKS, inputs)
    assert all(bool((scores == 1.0).all()) for scores in eca_scores(model, inputs).values())
    shaken(model)
    scores = eca_scores(model, inputs)
    assert {name: len(own) for name, own in scores.items()} == {"first.1": 8, "second.1": 16}
    assert all(0.0 < float(own.min()) < float(own.max()) < 2.0 for own in scores.values())


def test_importance_is_that_of_the_channels_behind() -> None:
    name = "concatenation"
    model, inputs = build(name), inputs_of(name)
    groups = list(channel_groups(model, inputs)[0].values())
    norms = [n for n, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    insert_eca(model, norms, inputs, 1)
    for module in model.modules():
        if isinstance(module, ECA):
            nn.init.ones_(module.conv.weight)
    found = eca_importance(model, groups, inputs, {f"{n}.1": n for n in norms})
    scores = eca_scores(model, inputs)
    for group in groups:
        norm = group.name.replace(".0", ".1")
        torch.testing.assert_close(found[group.name], scores[f"{norm}.1"].double())
    assert set(found) == {group.name for group in groups}


def test_what_cannot_be_done_is_refused() -> None:
    model, inputs = build("projected shortcuts"), inputs_of("projected shortcuts")
    for name, reason in (("nowhere", "is no block"), ("", "is no block"), ("head", "does not return")):
        with pytest.raises(SurgeryError, match=reason):
            insert_eca(model, [name], inputs)
    with pytest.raises(SurgeryError, match="odd"):
        insert_eca(model, ["first"], inputs, kernel=4)
    with pytest.raises(SurgeryError, match="insert_eca first"):
        eca_scores(model, inputs)


def test_a_narrowed_network_with_attention_is_rebuilt_from_plain_data() -> None:
    name = "projected shortcuts"
    model, inputs = build(name), inputs_of(name)
    student = copy.deepcopy(model)
    group = next(iter(channel_groups(student, inputs)[0].values()))
    remove_channels(student, [(group, np.arange(group.atom, group.channels))])
    insert_eca(student, (*BLOCKS, "stem"), inputs, 3)
    shaken(student)
    structure = json.loads(json.dumps(describe_changes(model, student)))
    assert {spec["kind"] for spec in structure.values()} == {"attended", "resized"}
    fresh = build(name, seed=7)
    rebuild(fresh, structure)
    fresh.load_state_dict(student.state_dict())
    assert torch.equal(fresh.eval()(*inputs), student.eval()(*inputs))
    assert describe_changes(student, copy.deepcopy(student)) == {}
    with pytest.raises(SurgeryError, match="already"):
        insert_eca(student, ["first"], inputs)
    for spec in ({"kind": "attended", "kernel": 4}, None, [], {}):
        with pytest.raises(PlanError, match="cannot be read"):
            rebuild(build(name), {"first": spec})
