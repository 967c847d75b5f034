"""A network for texts by the command line, from files and columns by name to what loads for texts of any length."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import coldpress as cp
from command_line import coldpress

transformers = pytest.importorskip("transformers", reason="needs the extra coldpress[hf]")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "very", "a", "film"]
QUICK = ["--units", "width", "--calibration", "16", "--random-plans", "3", "--refit-plans", "0", "--rounds", "0"]
QUICK += ["--epochs", "0", "--solver", "greedy", "--budget", "macs=70%", "--refit-images", "16"]


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A tiny BERT of random weights with its tokenizer."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, initializer_range=0.5, **sizes)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(str(tmp_path / "bert" / "vocab.txt")).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_compress_reads_named_files_and_what_it_leaves_loads_for_texts_of_any_length(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))
    draw = np.random.default_rng(0)
    texts = list({" ".join(draw.choice(WORDS[5:], draw.integers(2, 6))): None for _ in range(120)})
    parts = {"train": texts[:40], "validation": texts[40:52], "test": texts[52:64]}
    for part, lines in parts.items():
        rows = [f"{i}\t{int('good' in text)}\t{text}" for i, text in enumerate(lines)]
        (tmp_path / f"{part}.txt").write_text("\n".join(["id\tanswer\treview", *rows]))
    data = "tsv:" + ",".join(f"{part}={tmp_path}/{part}.txt" for part in parts) + ",text=review,label=answer"
    made = coldpress("compress", "--model", f"hf:{bert}", "--data", data, *QUICK, "--out", tmp_path / "run")
    assert made.exit_code == 0, made.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["compressed"]["macs"] <= 0.7 * metrics["original"]["macs"]
    again = cp.load(tmp_path / "run")
    built = cp.load(tmp_path / "run", lambda: cp.zoo.model(f"hf:{bert}"))
    example = json.loads((tmp_path / "run" / "details.json").read_text())["input"]["shapes"][0][1]
    for batch, tokens in ((1, 3), (4, 13)):
        assert tokens != example
        ids = torch.randint(5, len(WORDS), (batch, tokens))
        mask = torch.ones_like(ids)
        mask[0, tokens - 1] = 0
        with torch.no_grad():
            assert torch.allclose(again(ids, mask), built(ids, mask), atol=1e-5)
