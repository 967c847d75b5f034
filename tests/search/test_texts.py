"""A search over a network for texts: started in one folder, worked off in another by a worker with its own copies."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import coldpress, words

transformers = pytest.importorskip("transformers", reason="needs the extra coldpress[hf]")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", *(f"word{i}" for i in range(1017))]
FILES = "tsv:train={0}/train.tsv,test={0}/test.tsv,text=sentence,label=label"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a tiny BERT of random weights, and with texts."""
    bert, texts = tmp_path / "home" / "bert", tmp_path / "home" / "texts"
    texts.mkdir(parents=True)
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, initializer_range=0.5, **sizes)
    transformers.BertForSequenceClassification(config).save_pretrained(bert)
    (bert / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(str(bert / "vocab.txt")).save_pretrained(bert)
    draw = np.random.default_rng(0)
    rows = list({" ".join(draw.choice(WORDS[5:], 4)): None for _ in range(80)})
    for part, lines in (("train", rows[:60]), ("test", rows[60:])):
        (texts / f"{part}.tsv").write_text("sentence\tlabel\n" + "\n".join(f"{t}\t{int('1' in t)}" for t in lines))
    return tmp_path / "home"


def test_a_worker_elsewhere_takes_part_with_the_same_files_alone(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, log = tmp_path / "journal.log", tmp_path / "trials.csv"
    given = ["--units", "width,vocabulary", "--budget", "macs=90%", "--objectives", "kl,size", "--n-trials", 2]
    given += ["--fitness", "0.7,0,0.1,200,300", "--images", 16, "--refit-images", 16, "--storage", storage]
    monkeypatch.chdir(home)
    begun = words(coldpress("search", "--model", "hf:bert", "--data", FILES.format("texts"), *given, "--timeout", 0))
    assert "2 waiting" in begun

    away = tmp_path / "away"
    shutil.copytree(home, away / "files")
    shutil.move(home, tmp_path / "gone")
    monkeypatch.chdir(away)
    assert "where its files lie elsewhere on this machine, give --model" in words(coldpress("worker", storage))
    here = ["--model", "hf:files/bert", "--data", FILES.format("files/texts")]
    assert "2 trials done here, 2 in all" in words(coldpress("worker", storage, *here))
    found = words(coldpress("search", *here, *given, "--trials-out", log))
    assert "2 complete" in found
    params = [json.loads(row["params"]) for row in csv.DictReader(log.open())]
    assert all(any(name.endswith(":vocabulary") for name in row) for row in params)

    train = away / "files" / "texts" / "train.tsv"
    train.write_text(train.read_text().replace("word1", "good"))
    assert "are not those that this study was started with" in words(coldpress("worker", storage, *here))


def test_validation_chooses_among_the_best_over_batches_of_texts_of_any_length(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"word{i} " + "bad " * (i // 64) + f"\t{i % 2}" for i in range(70)]  # longer in the second batch
    (home / "texts" / "dev.tsv").write_text("\n".join(["sentence\tlabel", *rows]))
    monkeypatch.chdir(home)
    data = FILES.format("texts") + ",validation=texts/dev.tsv"
    given = ["--model", "hf:bert", "--data", data, "--units", "width", "--budget", "macs=90%", "--objectives", "kl"]
    given += ["--images", 16, "--refit-images", 16, "--storage", tmp_path / "j.log", "--n-trials", 4, "--rungs", 1]
    found = coldpress("search", *given, "--epochs", 0, "--out", tmp_path / "run")
    assert found.exit_code == 0, found.output
    assert "validation data (70 samples) chooses trial" in words(found)
    assert (tmp_path / "run" / "plan.json").is_file()
