"""What a compressed transformer leaves for `from_pretrained`: GPT-2's layout, the tokenizer, the preprocessor."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import coldpress as cp
from coldpress.commands.subject import read_task
from coldpress.plan import Plan
from coldpress.pretrained import save_pretrained
from coldpress.space import find_space
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.structure import Dropped

transformers = pytest.importorskip("transformers", reason="needs the extra coldpress[hf]")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]


def smaller(model: nn.Module, inputs: tuple[Tensor, ...], kind: str) -> nn.Module:
    """The model with one block less ("depth"), or with half of every block's neurons ("width")."""
    space = find_space(cp.Task(model, inputs), [kind])
    if kind == "depth":
        return apply_plan(model, space, Plan({space.units[0].name: "drop"}, {}))[0]
    neurons = [unit for unit in space.units if unit.name.endswith(("c_fc:width", "fc1:width"))]
    half = {unit.name: next(option for option in unit.options if option.channels == 32) for unit in neurons}
    assert len(half) == 2
    plan = Plan({name: option.label for name, option in half.items()}, {name: tuple(range(32)) for name in half})
    return apply_plan(model, space, plan)[0]


@pytest.mark.parametrize("kind", ["depth", "width"])
@pytest.mark.parametrize("task", ["GPT2ForSequenceClassification", "GPT2LMHeadModel"])
def test_gpt2_is_written_with_its_weights_transposed(task: str, kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=16, n_positions=16, n_embd=16, n_layer=2, n_head=4, pad_token_id=0, initializer_range=0.5
    )
    getattr(transformers, task)(config).save_pretrained(tmp_path / "gpt2")
    model = cp.zoo.model(f"hf:{tmp_path / 'gpt2'}")
    ids = torch.randint(1, 16, (3, 6))
    inputs = (ids, torch.ones_like(ids))
    small = smaller(model, inputs, kind)
    assert save_pretrained(small, tmp_path / "small", inputs)
    again = getattr(transformers, task).from_pretrained(tmp_path / "small").eval()
    assert (again.config.n_layer, again.config.n_inner) == ((1, 64) if kind == "depth" else (2, 32))
    with torch.no_grad():
        assert torch.allclose(again(input_ids=ids, attention_mask=inputs[1]).logits, small(*inputs), atol=1e-5)


def test_the_tokenizer_is_written_beside_so_that_texts_can_be_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, initializer_range=0.5, **sizes)
    bert, texts = tmp_path / "bert", tmp_path / "texts.tsv"
    transformers.BertForSequenceClassification(config).save_pretrained(bert)
    (bert / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(str(bert / "vocab.txt")).save_pretrained(bert)
    rows = [f"{'good ' * (i % 9 + 1)}{'film ' * (i // 9)}\t{i % 2}" for i in range(45)]
    texts.write_text("sentence\tlabel\n" + "\n".join(rows))
    task = read_task(cp.Recipe(model=f"hf:{bert}", data=str(texts)))
    small = smaller(task.model, task.example_inputs, "depth")
    assert save_pretrained(small, tmp_path / "small", task.example_inputs, task.tokenizer)
    again = read_task(cp.Recipe(model=f"hf:{tmp_path / 'small'}", data=str(texts)))
    assert [row.tolist() for row in again.test.ids] == [row.tolist() for row in task.test.ids]
    assert torch.allclose(again.evaluate(again.model).logits, task.evaluate(small).logits, atol=1e-5)


def decoder(kind: str, place: Path) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A tiny classifier of texts of this kind, and inputs of it; the last two of Qwen2's layers see four tokens."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"vocab_size": 16, "intermediate_size": 32, "max_position_embeddings": 16, "pad_token_id": 0}
    near = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1} if kind == "Qwen2" else {}
    config = getattr(transformers, f"{kind}Config")(initializer_range=0.5, **sizes, **near)
    getattr(transformers, f"{kind}ForSequenceClassification")(config).save_pretrained(place)
    ids = torch.randint(1, 16, (3, 6))
    return cp.zoo.model(f"hf:{place}"), (ids, torch.ones_like(ids))


@pytest.mark.parametrize("kind", ["Llama", "Qwen2"])
def test_a_dropped_layer_leaves_every_list_of_the_configuration(kind: str, tmp_path: Path) -> None:
    model, inputs = decoder(kind, tmp_path / "whole")
    small = copy.deepcopy(model)
    small.model.model.layers[0] = Dropped()
    assert save_pretrained(small, tmp_path / "small", inputs)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "small").eval()
    assert again.config.num_hidden_layers == 2
    if kind == "Qwen2":
        assert model.model.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
        assert again.config.layer_types == ["sliding_attention", "sliding_attention"]
    with torch.no_grad():
        assert torch.allclose(again(input_ids=inputs[0], attention_mask=inputs[1]).logits, small(*inputs), atol=1e-5)


def test_a_form_that_cannot_be_written_is_told_and_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Unwritable:
        def save_pretrained(self, folder: Path) -> None:
            assert (folder / "config.json").is_file()
            raise LookupError("no such token")

    model, inputs = decoder("Llama", tmp_path / "whole")
    assert not save_pretrained(model, tmp_path / "pretrained", inputs, Unwritable())
    assert not (tmp_path / "pretrained").exists()
    assert "pretrained is left out, as it cannot be written: no such token" in caplog.text


def test_a_configuration_that_refuses_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "coldpress.zoo")
    model, inputs = decoder("Qwen2", tmp_path / "whole")
    model.model.config.layer_types = ["full_attention"]  # of another number of layers, as it would be of a list unknown
    assert not save_pretrained(model, tmp_path / "pretrained", inputs)
    assert not (tmp_path / "pretrained").exists()
    assert caplog.records


def test_a_vit_is_written_with_its_preprocessor(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.ViTConfig(image_size=16, patch_size=8, initializer_range=0.5, **sizes)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    form = {"size": {"height": 16, "width": 16}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.1, 0.2, 0.3]}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(form))
    model = cp.zoo.model(f"hf:{tmp_path / 'vit'}")
    pixels = (torch.randn(2, 3, 16, 16),)
    small = smaller(model, pixels, "width")
    assert save_pretrained(small, tmp_path / "small", pixels)
    again = cp.zoo.model(f"hf:{tmp_path / 'small'}")
    assert torch.allclose(again(*pixels), small(*pixels), atol=1e-5)
    assert cp.zoo.image_form(f"hf:{tmp_path / 'small'}") == cp.zoo.image_form(f"hf:{tmp_path / 'vit'}")
