"""Text models of other kinds than BERT: what fills texts up, what sees ahead, and where positions end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import coldpress as cp
from coldpress.commands.subject import read_data, read_task
from coldpress.errors import TaskError
from coldpress.space import find_space

transformers = pytest.importorskip("transformers", reason="needs the extra coldpress[hf]")
from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: E402

WORDS = ["<unk>", "<end>", "<pad>", "good", "bad", "very", "a", "film", "so"]
GPT2 = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "bos_token_id": None, "initializer_range": 0.5}
OTHERS = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 32,
    "ffn_dim": 32,
    "word_embed_proj_dim": 16,
    "max_position_embeddings": 16,
    "bos_token_id": None,
    "initializer_range": 0.5,
}


def saved(place: Path, kind: str, tokens: dict[str, str] | None = None, **config: Any) -> str:
    """A model with random weights, and a tokenizer of WORDS where ``tokens`` names its special ones."""
    torch.manual_seed(0)
    maker = getattr(transformers, kind)
    sizes = {"vocab_size": len(WORDS), "pad_token_id": None, "eos_token_id": None}
    maker(maker.config_class(**{**sizes, **config})).save_pretrained(place)
    if tokens is not None:
        words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", **tokens).save_pretrained(place)
    return f"hf:{place}"


def padded(name: str, filling: int) -> tuple[Tensor, Tensor]:
    """Logits of a short text: filled up beside a longer one, and alone."""
    model = cp.zoo.model(name)
    together, alone = torch.tensor([[3, *[filling] * 3], [6, 5, 4, 8]]), torch.tensor([[3]])
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]])
    with torch.no_grad():
        return model(together, mask)[0], model(alone, torch.ones_like(alone))[0]


@pytest.mark.parametrize(
    ("config", "tokens", "word"),
    [
        ({"pad_token_id": 7}, {}, "film"),
        ({"pad_token_id": 7}, {"pad_token": "<pad>"}, "film"),
        ({}, {"pad_token": "<pad>"}, "<pad>"),
        ({}, {"eos_token": "<end>"}, "<end>"),
        ({"eos_token_id": 1}, {}, "<end>"),
        ({"pad_token_id": -1}, {"pad_token": "<pad>"}, "<pad>"),
    ],
)
def test_model_and_tokenizer_fill_up_with_the_same_token(
    config: dict[str, Any], tokens: dict[str, str], word: str, tmp_path: Path
) -> None:
    name = saved(tmp_path / "gpt2", "GPT2ForSequenceClassification", tokens, **GPT2, **config)
    assert cp.zoo.tokenizer(name).pad_token == word
    assert cp.zoo.model(name).model.config.pad_token_id == WORDS.index(word)
    together, alone = padded(name, WORDS.index(word))
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "OPT"])
def test_classifiers_made_of_decoders_read_padded_texts(kind: str, tmp_path: Path) -> None:
    name = saved(tmp_path / "it", f"{kind}ForSequenceClassification", **OTHERS, eos_token_id=1)
    together, alone = padded(name, 1)
    assert torch.allclose(together, alone, atol=1e-5)


def test_where_nothing_can_fill_up_texts_are_refused(tmp_path: Path) -> None:
    name = saved(tmp_path / "gpt2", "GPT2ForSequenceClassification", {}, **GPT2)
    (tmp_path / "train.tsv").write_text("text\tlabel\ngood film\t1\nbad\t0\n")
    with pytest.raises(TaskError, match="no token that fills texts up"):
        read_data(cp.Recipe(model=name, data=str(tmp_path / "train.tsv")))


BERT = {**OTHERS, "vocab_size": 256, "pad_token_id": 0}
BYTES = "".join(chr(33 + (i * i // 7) % 90) for i in range(2000))


def plain(tmp_path: Path, text: str = BYTES) -> str:
    (tmp_path / "text.txt").write_text(text)
    return str(tmp_path / "text.txt")


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "RobertaForMaskedLM", "BertLMHeadModel"])
def test_an_encoder_is_no_decoder(kind: str, tmp_path: Path) -> None:
    name = saved(tmp_path / "it", kind, **BERT)
    with pytest.raises(TaskError, match=r"is an encoder \(r?o?bert.*sees the tokens that it is to predict"):
        read_task(cp.Recipe(model=name, data=plain(tmp_path)))
    decoder = saved(tmp_path / "decoder", "BertLMHeadModel", **BERT, is_decoder=True)
    assert read_task(cp.Recipe(model=decoder, data=plain(tmp_path))).per_token


def test_bytes_are_read_where_the_vocabulary_is_one_of_bytes(tmp_path: Path) -> None:
    def task(name: str, text: str = BYTES) -> cp.Task:
        return read_task(cp.Recipe(model=name, data=plain(tmp_path, text), weights="random"))

    with pytest.raises(TaskError, match="brings no tokenizer, and knows 5000 tokens"):
        task(saved(tmp_path / "many", "GPT2LMHeadModel", **GPT2, vocab_size=5000))
    few = saved(tmp_path / "few", "GPT2LMHeadModel", **GPT2, vocab_size=60)
    (tmp_path / "few" / "model.safetensors").unlink()
    with pytest.raises(TaskError, match="the text holds the byte 122, and the model knows 60 tokens"):
        task(few)
    assert task(few, "0123456789" * 40 + "98765" * 40).per_token
    assert task(saved(tmp_path / "bytes", "GPT2LMHeadModel", **GPT2, vocab_size=259)).per_token


def test_windows_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    name = saved(tmp_path / "few", "GPT2LMHeadModel", {}, **GPT2, vocab_size=6)
    with pytest.raises(TaskError, match="the tokenizer gives token 8, and the model knows 6"):
        read_task(cp.Recipe(model=name, data=plain(tmp_path, "good bad very a film so " * 50), tokens=4))


def test_no_more_tokens_are_read_than_there_are_positions_for(tmp_path: Path) -> None:
    name = saved(tmp_path / "gpt2", "GPT2LMHeadModel", **GPT2, vocab_size=256)
    with pytest.raises(TaskError, match=r"tokens is 17, and hf:.* has positions for 16: give --tokens 16"):
        read_task(cp.Recipe(model=name, data=plain(tmp_path), tokens=17))
    task = read_task(cp.Recipe(model=name, data=plain(tmp_path)))
    assert task.test.ids.shape[1] == 16


def test_texts_of_unknown_words_are_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name = saved(tmp_path / "gpt2", "GPT2ForSequenceClassification", {"pad_token": "<pad>"}, **GPT2)
    other = tmp_path / "other.tsv"
    other.write_text("text\tlabel\n" + "".join(f"schlecht{i} a\t{i % 2}\nlangweilig\t1\n" for i in range(9)))
    with pytest.raises(TaskError, match=r"67% of the tokens are unknown to the tokenizer .*gpt2"):
        read_data(cp.Recipe(model=name, data=str(other)))
    with pytest.raises(TaskError, match="100% of the tokens are unknown"):
        read_data(cp.Recipe(model=name, data=plain(tmp_path, "ein schlechter Film " * 50), tokens=4))
    some = "".join(f"{a} {b} {c} {'good' if i % 3 else 'gut'}\t{i % 2}\n" for i, (a, b, c) in enumerate(triples()))
    other.write_text("text\tlabel\n" + some)
    read_data(cp.Recipe(model=name, data=str(other)))
    assert "of the tokens are unknown to the tokenizer" not in caplog.text  # a twelfth of them
    other.write_text("text\tlabel\n" + some.replace("very", "sehr"))
    read_data(cp.Recipe(model=name, data=str(other)))
    assert "of the tokens are unknown to the tokenizer" in caplog.text


def triples() -> list[tuple[str, str, str]]:
    return [(a, b, c) for a in WORDS[3:] for b in WORDS[3:] for c in WORDS[3:]]


def test_texts_are_cut_off_at_512_only_where_model_and_tokenizer_name_no_length(tmp_path: Path) -> None:
    (tmp_path / "all.tsv").write_text(
        "text\tlabel\n" + "".join(f"{word} {'good ' * 589}{word}\t{i % 2}\n" for i, word in enumerate(WORDS[3:]))
    )

    def longest(place: str, kind: str, **config: Any) -> int:
        name = saved(tmp_path / place, kind, {"pad_token": "<pad>"}, **config)
        splits = read_data(cp.Recipe(model=name, data=str(tmp_path / "all.tsv")))
        return max(len(row) for part in (splits.train, splits.validation, splits.test) for row in part.ids)

    assert longest("long", "LlamaForSequenceClassification", **{**OTHERS, "max_position_embeddings": 2048}) == 591
    assert longest("short", "LlamaForSequenceClassification", **OTHERS) == 16


@pytest.mark.parametrize("kind", ["Deberta", "DebertaV2", "MPNet", "FNet"])
def test_models_without_the_fused_attention_are_read_as_linear_layers(kind: str, tmp_path: Path) -> None:
    name = saved(tmp_path / "it", f"{kind}ForSequenceClassification", **{**OTHERS, "pad_token_id": 2})
    model = cp.zoo.model(name)
    ids = torch.randint(3, len(WORDS), (2, 6))
    space = find_space(cp.Task(model, (ids, torch.ones_like(ids))), ["width", "rank", "bits"])
    ranks = {unit.target for unit in space.units if unit.kind in ("rank", "bits")}
    assert any("intermediate.dense" in target for target in ranks)
    assert any(unit.name.endswith("intermediate.dense:width") for unit in space.units)
