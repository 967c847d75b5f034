"""Decoders end to end: trained from a configuration on real text, compressed, judged by perplexity, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import coldpress as cp
from coldpress import evaluate, zoo
from coldpress.energy import curvature
from coldpress.errors import TaskError
from coldpress.generation import FILE, WithPast, export_with_past
from coldpress.network import evaluating, logits_of
from coldpress.plan import Plan
from coldpress.recovery import Settings, fit
from coldpress.runtime import session
from coldpress.space import find_space
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import collect_moments
from coldpress.windows import WindowData

transformers = pytest.importorskip("transformers", reason="needs the extra coldpress[hf]")
from coldpress.zoo.huggingface import network  # noqa: E402

TEXT = Path(__file__).parent.parent / "LICENSE"
TOKENS = 32
MAKES = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}),
}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64}


@pytest.fixture(params=MAKES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with a configuration and nothing else."""
    name, kind, own = MAKES[request.param]
    more = HEADS if request.param == "llama" else {}
    tokens = {"vocab_size": 128, "bos_token_id": 0, "eos_token_id": 0}
    getattr(transformers, name)(**tokens, **own, **more, architectures=[kind]).save_pretrained(tmp_path / "made")
    return tmp_path / "made"


def task_of(folder: Path, epochs: int = 0) -> cp.Task:
    """A decoder of bytes on the licence's text."""
    torch.manual_seed(0)
    text = folder.with_name("text.txt")
    text.write_text(TEXT.read_text())
    splits = zoo.data(str(text), window=TOKENS)
    task = cp.Task(network(str(folder)), None, **splits.arguments())
    fit(task.model, task, Settings(epochs=epochs, optimizer="adamw", lr=0.01, batch_size=16, precision="fp32"))
    return task


def inputs_of(count: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, 128, (2, count), generator=torch.Generator().manual_seed(0))
    return ids, torch.ones_like(ids)


def test_training_lowers_the_perplexity_that_the_original_is_judged_by(folder: Path) -> None:
    task = task_of(folder)
    before = task.evaluate(task.model).perplexity
    assert task.per_token
    assert task.num_classes == 128
    assert before == pytest.approx(128, rel=0.3)  # of random weights
    settings = Settings(epochs=1, optimizer="adamw", lr=0.01, batch_size=16, precision="fp32")
    fit(task.model, task, settings)
    after = task.evaluate(task.model)
    assert after.perplexity < 0.5 * before
    assert after.samples == len(task.test) * TOKENS
    assert after.score(task.metric) == pytest.approx(-after.loss, rel=1e-5)


def test_a_compressed_decoder_reads_on_from_its_past(folder: Path, tmp_path: Path) -> None:
    task = task_of(folder, epochs=1)
    budget = cp.Budget(macs="60%")
    result = cp.compress(
        task, budget, units=("width", "depth"), epochs=1, lr=0.003, optimizer="adamw", batch_size=16, calibration=32,
        refit_images=64, refit_plans=0, out=tmp_path / "run",
    )  # fmt: skip
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["compressed"]["macs"] <= 0.6 * metrics["original"]["macs"]
    assert metrics["compressed"]["perplexity"] < 128 / 2
    whole = session(tmp_path / "run" / "model.onnx")
    steps = session(tmp_path / "run" / FILE)
    ids, mask = inputs_of()
    wanted = whole.run(None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()})[0]
    with evaluating(result.model):
        torch.testing.assert_close(torch.from_numpy(wanted), result.model(ids, mask), atol=1e-4, rtol=1e-4)
    past: dict[str, Any] = {
        given.name: np.zeros((2, given.shape[1], 0, given.shape[3]), np.float32) for given in steps.get_inputs()[2:]
    }
    found = []
    for i in range(ids.shape[1]):
        fed = {"input_ids": ids[:, i : i + 1].numpy(), "attention_mask": mask[:, : i + 1].numpy(), **past}
        logits, *present = steps.run(None, fed)
        found.append(logits)
        past = dict(zip(past, present))
    np.testing.assert_allclose(np.concatenate(found, 1), wanted, atol=1e-4)


def test_what_is_no_decoder_has_no_past(tmp_path: Path) -> None:
    assert not export_with_past(nn.Linear(2, 2), (torch.zeros(1, 20),), tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_layers_without_attention_keep_nothing(folder: Path) -> None:
    model = network(str(folder))
    space = find_space(cp.Task(model, inputs_of()), ["depth"])
    attention = next(unit for unit in space.units if unit.target.endswith(("attn", "0")))
    student, _ = apply_plan(model, space, Plan({attention.name: "drop"}))
    assert len(WithPast(student.model, inputs_of()).layers) == 1


@pytest.mark.parametrize("gone", ["0", "0.self_attn", "0.attn", "1.mlp"])
def test_what_is_left_reads_on_from_its_past_as_it_reads_a_whole_text(folder: Path, gone: str) -> None:
    model, (ids, mask) = network(str(folder)), inputs_of()
    for parameter in model.parameters():
        parameter.data *= 10
    space = find_space(cp.Task(model, (ids, mask)), ["depth"])
    drop = {unit.name: "drop" for unit in space.units if unit.target.endswith(f".{gone}")}
    student, _ = apply_plan(model, space, Plan(drop))
    twin = WithPast(student.model, (ids, mask))
    with evaluating(twin):
        found = twin(ids[:, 6:], mask, *twin.present(ids[:, :6], mask[:, :6]))[0]
        torch.testing.assert_close(found, student(ids, mask)[:, 6:], atol=1e-3, rtol=1e-4)


def test_where_nothing_attends_there_is_no_past(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = network(str(folder))
    space = find_space(cp.Task(model, inputs_of()), ["depth"])
    attention = {unit.name: "drop" for unit in space.units if unit.target.endswith("attn")}
    assert len(attention) == 2
    student, _ = apply_plan(model, space, Plan(attention))
    assert not export_with_past(student, inputs_of(), tmp_path / FILE)
    assert "no layer is left that attends" in caplog.text


def test_a_head_that_is_the_table_too_keeps_its_form(folder: Path) -> None:
    model = network(str(folder))
    space = find_space(cp.Task(model, inputs_of()), ["rank", "bits"])
    tied = model.model.config.tie_word_embeddings
    changed = {unit.target for unit in space.units}
    assert ("model.lm_head" in changed) != tied
    assert ("model.lm_head:rank" in space.refused) == tied


def test_few_projections_keep_inner_products(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(folder, epochs=1)
    space = find_space(task, ["width"])
    inputs = task.calibration(64)[0]
    effects = Effects(task.model, space, collect_moments(task.model, [site.name for site in space.sites], inputs))
    exact = curvature.sensitivities(task.model, space, effects, inputs)
    assert exact.features.shape[1] == 64 * TOKENS * 128
    monkeypatch.setattr(curvature, "MOST_FEATURES", 1 << 16)
    few = curvature.sensitivities(task.model, space, effects, inputs)
    assert few.features.shape[1] == 1 << 16
    wanted, found = (s.features @ s.features.T for s in (exact, few))
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()
    assert np.allclose(exact.kl, few.kl)


def test_labels_must_be_tokens_where_logits_are(folder: Path) -> None:
    ids, mask = inputs_of()
    data = [(ids, mask, torch.tensor([0, 1]))]
    with pytest.raises(TaskError, match=r"must be \(batch, tokens\)"):
        cp.Task(network(str(folder)), None, test=data)


def test_logits_of_tokens_are_rows() -> None:
    assert logits_of((torch.zeros(2, 3, 5), None)).shape == (6, 5)
    assert logits_of(torch.zeros(2, 5)).shape == (2, 5)


def test_outputs_that_are_too_many_are_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of(folder)
    whole = task.evaluate(task.model)
    monkeypatch.setattr(evaluate, "MOST_LOGITS", 10)
    few = task.evaluate(task.model)
    assert few.logits is None
    assert np.array_equal(few.predictions, whole.predictions)
    assert few.score(task.metric) == pytest.approx(whole.score(task.metric), rel=1e-5)
    with pytest.raises(TaskError, match="too many to keep"):
        few.score(evaluate.METRICS["top5_accuracy"])


def test_windows_shorter_than_the_past_have_no_file(folder: Path, tmp_path: Path) -> None:
    ids = torch.zeros(2, 4, dtype=torch.long)
    assert not export_with_past(network(str(folder)), (ids, torch.ones_like(ids)), tmp_path / "a.onnx")


def test_a_decoder_of_windows_takes_any_length(folder: Path) -> None:
    task = cp.Task(network(str(folder)), inputs_of(12), test=WindowData.of(torch.arange(101) % 128, TOKENS))
    assert task.evaluate(task.model).samples == 3 * TOKENS
