"""ALBERT, whose layers are called again and again: one unit for all calls, and all that follows from it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

import coldpress as cp
from coldpress.deploy import export_both, int8_layers
from coldpress.energy.suffix import Suffix
from coldpress.network import divergence, evaluating
from coldpress.plan import Plan, Space
from coldpress.pretrained import save_pretrained
from coldpress.runtime import export, run, session
from coldpress.space import find_space
from coldpress.space.bits import with_int8_form
from coldpress.space.layers import count_macs
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import collect_moments
from coldpress.surgery.structure import rebuild
from coldpress.tokens import TokenData

transformers = pytest.importorskip("transformers", reason="needs the extra coldpress[hf]")
from coldpress.zoo.huggingface import TextModel  # noqa: E402

LAYER = "model.albert.encoder.albert_layer_groups.0.albert_layers.0"
HEADS, NEURONS = f"{LAYER}.attention.query:width", f"{LAYER}.ffn:width"
HALF = {HEADS: "16/32", NEURONS: "24/48"}
CALLS = 3
INTEGER = ("QLinearMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat")


def albert(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"vocab_size": 100, "embedding_size": 16, "hidden_size": 32, "intermediate_size": 48}
    sizes |= {"num_hidden_layers": CALLS, "num_attention_heads": 4, "max_position_embeddings": 32}
    config = transformers.AlbertConfig(**sizes, initializer_range=0.3)
    model = transformers.AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    return TextModel(model).eval()


def texts(samples: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, 100, (samples, 12), generator=generator)
    mask = torch.ones_like(ids)
    mask[1::3, 8:] = 0
    return ids, mask


def space_of(model: nn.Module, *kinds: str) -> Space:
    return find_space(SimpleNamespace(model=model, example_inputs=texts(3), ignored_layers=()), kinds)


def logits(model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    with evaluating(model):
        found: Tensor = model(*inputs)
    return found


def constants(path: Path) -> int:
    return sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(path).graph.initializer)


def test_heads_and_neurons_of_all_calls_are_one_unit_each() -> None:
    model = albert()
    space = space_of(model, "width", "rank", "bits")
    assert [name for name in space.groups if name.startswith(LAYER)] == [HEADS, NEURONS]
    assert (space.groups[HEADS].atom, space.groups[NEURONS].channels) == (8, 48)
    shared = [site for site in space.sites if site.name.startswith(LAYER)]
    assert [site.shape.calls for site in shared] == [CALLS] * 6
    assert sum(site.shape.macs for site in space.sites) == count_macs(model, texts(3))
    stored = sum(p.numel() for n, p in model.named_parameters() if n.startswith(LAYER) and "orm" not in n)
    assert sum(site.shape.bytes for site in shared) == 4 * stored


@pytest.mark.parametrize("ranks", [{}, {f"{LAYER}.ffn:rank": "svd 8", f"{LAYER}.attention.dense:rank": "svd 4"}])
def test_what_is_removed_is_what_was_predicted_everywhere(ranks: dict[str, str], tmp_path: Path) -> None:
    model, inputs = albert(), texts(6)
    space = space_of(model, "width", "rank")
    choices = HALF | ranks
    effects = Effects(model, space, collect_moments(model, [site.name for site in space.sites], texts(40)))
    small, plan = apply_plan(model, space, Plan(choices, effects.kept(choices)), moments=effects.moments)
    found = logits(small, inputs)
    with Suffix(model, inputs) as suffix:
        torch.testing.assert_close(found, suffix.run(effects.replacements(choices)), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(found, suffix.logits, atol=1e-3)

    shapes = [shape for _, shape in space.configured(choices) if shape is not None]
    assert sum(shape.macs for shape in shapes) == count_macs(small, inputs)
    linear = {id(p): p for m in small.modules() if isinstance(m, nn.Linear) for p in m.parameters()}
    assert sum(shape.bytes for shape in shapes) == 4 * sum(p.numel() for p in linear.values())

    fresh = albert(seed=1)
    rebuild(fresh, plan.structure)
    fresh.load_state_dict(small.state_dict())
    assert torch.equal(logits(fresh, inputs), found)
    path = export(small, inputs, tmp_path / "small.onnx")
    np.testing.assert_allclose(run(session(path), [x.numpy() for x in inputs])[0], found, rtol=1e-4, atol=1e-4)
    assert constants(path) < 1.05 * sum(4 * p.numel() for p in small.parameters())


def test_removed_equals_masked() -> None:
    model, inputs = albert(), texts(6)
    space = space_of(model, "width")
    kept = {HEADS: tuple(range(8, 24)), NEURONS: tuple(range(24))}
    small, _ = apply_plan(model, space, Plan(HALF, kept))
    masked = albert()
    with torch.no_grad():
        masked.get_submodule(f"{LAYER}.attention.dense").get_parameter("weight")[:, [*range(8), *range(24, 32)]] = 0.0
        masked.get_submodule(f"{LAYER}.ffn_output").get_parameter("weight")[:, 24:] = 0.0
    torch.testing.assert_close(logits(small, inputs), logits(masked, inputs), atol=1e-5, rtol=1e-5)


def test_fewer_neurons_have_a_form_in_transformers(tmp_path: Path) -> None:
    model, inputs = albert(), texts(6)
    kept = {NEURONS: tuple(range(24))}
    small, _ = apply_plan(model, space_of(model, "width"), Plan({NEURONS: HALF[NEURONS]}, kept))
    assert save_pretrained(small, tmp_path, inputs)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(TextModel(again), inputs), logits(small, inputs))


def test_the_refit_makes_up_for_what_was_lost_at_all_calls_together() -> None:
    model, inputs = albert(), texts(150)
    space = space_of(model, "width")
    effects = Effects(model, space, collect_moments(model, [site.name for site in space.sites], inputs))
    plan = Plan(HALF, effects.kept(HALF))
    plain, once, fitted = (
        apply_plan(model, space, plan, **given)[0]
        for given in ({}, {"moments": effects.moments}, {"moments": effects.moments, "calibration": inputs})
    )
    losses = [divergence(logits(model, inputs), logits(student, inputs)) for student in (plain, once, fitted)]
    assert losses[2] < 0.8 * losses[1] < 0.5 * losses[0]


@pytest.mark.parametrize(("label", "near"), [("int8", 0.5), ("int8-dynamic", 0.05)])
def test_all_calls_are_rounded_and_share_their_integers(label: str, near: float, tmp_path: Path) -> None:
    model, inputs = albert(), texts(6)
    space = with_int8_form(space_of(model, "bits"), "both")
    choices = {unit.name: label for unit in space.units if unit.name.startswith(LAYER)}
    paths = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    export_both(model, inputs, int8_layers(space, Plan(choices), model), texts(40, seed=1), *paths)
    session(paths[1], optimised_path=tmp_path / "optimised.onnx")
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert sum(kind in INTEGER for kind in kinds) == 6 * CALLS
    saved = sum(site.shape.bytes - shape.bytes for site, shape in space.configured(choices) if shape is not None)
    assert constants(paths[0]) - constants(paths[1]) == pytest.approx(saved, rel=0.1)
    with Suffix(model, inputs) as suffix:
        predicted = suffix.run(Effects(model, space, {}, batch=6).replacements(choices))
        scale = float(suffix.logits.std())
    found = run(session(paths[1]), [x.numpy() for x in inputs])[0]
    np.testing.assert_allclose(found, predicted, rtol=0, atol=near * scale)


def test_a_budget_is_met_and_the_artifact_loads(tmp_path: Path) -> None:
    def split(samples: int, seed: int) -> TokenData:
        ids, _ = texts(samples, seed)
        return TokenData(tuple(ids), (ids[:, 1] > 50).long(), ("low", "high"))

    task = cp.Task(albert(), train=split(120, 1), validation=split(40, 2), test=split(40, 3), name="tiny ALBERT")
    settings = {"units": ("width",), "calibration": 24, "refit_images": 40, "random_plans": 4, "refit_plans": 0}
    settings |= {"solver": "anneal", "time_limit": 1.0, "rounds": 0, "epochs": 1}
    result = cp.compress(task, cp.Budget(macs="60%"), out=tmp_path / "run", **settings)
    macs = {side: result.metrics[side]["macs"] for side in ("original", "compressed")}
    assert macs["compressed"] <= 0.6 * macs["original"]
    assert macs["compressed"] == pytest.approx(result.metrics["predicted"]["macs"])
    assert result.plan.choices[HEADS] != "keep" or result.plan.choices[NEURONS] != "keep"
    inputs = texts(4, seed=4)
    again = logits(cp.load(tmp_path / "run", albert), inputs)
    found = run(session(tmp_path / "run" / "model.onnx"), [x.numpy() for x in inputs])[0]
    np.testing.assert_allclose(found, again, rtol=1e-4, atol=1e-4)
