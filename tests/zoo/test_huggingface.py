"""Hugging Face classifiers from a folder: loaded, compressed by heads and neurons, deployed for texts of any length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import coldpress as cp
from coldpress.commands.subject import read_task
from coldpress.errors import TaskError
from coldpress.plan import Plan
from coldpress.pretrained import save_pretrained
from coldpress.runtime import run, session
from coldpress.space import find_space
from coldpress.surgery.apply import apply_plan
from coldpress.tokens import TokenData

transformers = pytest.importorskip("transformers", reason="needs the extra coldpress[hf]")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "very", "a", "film"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights and its tokenizer, as save_pretrained writes them."""
    path = tmp_path_factory.mktemp("tiny-bert")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=32,
        initializer_range=0.5,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(str(path / "vocab.txt")).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts")
    draw = np.random.default_rng(0)
    rows = {tuple(draw.choice(WORDS[5:], draw.integers(2, 9))): None for _ in range(200)}
    lines = [f"{' '.join(row)}\t{int('good' in row)}" for row in rows]
    (path / "train.tsv").write_text("sentence\tlabel\n" + "\n".join(lines[:100]))
    (path / "dev.tsv").write_text("sentence\tlabel\n" + "\n".join(lines[100:140]))
    return path


def test_a_classifier_and_its_tokenizer_are_found_by_folder(folder: Path) -> None:
    model = cp.zoo.model(f"hf:{folder}")
    encode = cp.zoo.tokenizer(f"hf:{folder}")
    tokens = encode(["a good film", "bad"], padding=True, return_tensors="pt")
    with torch.no_grad():
        together = model(tokens["input_ids"], tokens["attention_mask"])
        alone = model(*(tokens[name][1:, :3] for name in ("input_ids", "attention_mask")))
    assert together.shape == (2, 2)
    assert torch.allclose(together[1:], alone, atol=1e-5)


def test_a_data_set_is_read_by_the_library_too(folder: Path, texts: Path) -> None:
    pytest.importorskip("datasets", reason="needs the extra coldpress[hf]")
    encode = cp.zoo.tokenizer(f"hf:{folder}")
    lines = texts / "as-csv"
    lines.mkdir()
    for part in ("train", "dev"):
        rows = (texts / f"{part}.tsv").read_text().replace("\t", ",")
        (lines / f"{'validation' if part == 'dev' else part}.csv").write_text(rows)
    ours = cp.zoo.data(str(texts), tokenizer=encode)
    theirs = cp.zoo.data(f"hf:{lines}", tokenizer=encode)
    assert [row.tolist() for row in theirs.test.ids] == [row.tolist() for row in ours.test.ids]
    assert sorted(theirs.train.keys()) == sorted(ours.train.keys())


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="there is no folder"):
        cp.zoo.model(f"hf:{tmp_path}/none")
    with pytest.raises(TaskError, match=r"config\.json"):
        cp.zoo.model(f"hf:{tmp_path}")


def saved(folder: Path, place: Path, kind: str, **config: object) -> str:
    """A model of another kind, or with another configuration, beside the tokenizer of ``folder``."""
    place.mkdir()
    for file in folder.iterdir():
        if not file.name.startswith(("config", "model")):
            (place / file.name).write_bytes(file.read_bytes())
    sizes = transformers.BertConfig.from_pretrained(folder).to_dict()
    transformers_class = getattr(transformers, kind)
    transformers_class(transformers_class.config_class(**{**sizes, **config})).save_pretrained(place)
    return f"hf:{place}"


def task_of(name: str, texts: Path) -> cp.Task:
    return read_task(cp.Recipe(model=name, data=str(texts)))


def test_what_is_no_trained_classifier_is_refused(folder: Path, texts: Path, tmp_path: Path) -> None:
    headless = saved(folder, tmp_path / "mlm", "BertForMaskedLM")
    with pytest.raises(TaskError, match=r"brings no weights for .*classifier.bias, so it was not trained for this"):
        task_of(headless, texts)
    multi = {"problem_type": "multi_label_classification"}
    several = saved(folder, tmp_path / "several", "BertForSequenceClassification", **multi)
    with pytest.raises(TaskError, match="made for multi_label_classification"):
        task_of(several, texts)
    small = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    kind = {"model_type": "bart", "classifier_dropout": 0.0, "is_encoder_decoder": True}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    both = saved(folder, tmp_path / "both", "BartForConditionalGeneration", **small, **heads, **kind)
    with pytest.raises(TaskError, match=r"sequence-to-sequence model \(bart\)"):
        task_of(both, texts)


def test_a_tokenizer_of_another_model_is_refused(folder: Path, texts: Path, tmp_path: Path) -> None:
    few = saved(folder, tmp_path / "few", "BertForSequenceClassification", vocab_size=7)
    with pytest.raises(TaskError, match="gives token 9, and the model knows 7"):
        task_of(few, texts)


def test_texts_are_cut_off_where_the_model_knows_no_more_positions(folder: Path, texts: Path, tmp_path: Path) -> None:
    assert cp.zoo.tokenizer(f"hf:{folder}").model_max_length == 32
    short = saved(folder, tmp_path / "short", "BertForSequenceClassification", max_position_embeddings=6)
    task = task_of(short, texts)
    assert max(len(row) for row in task.train.ids) == 6
    assert task.evaluate(task.model).accuracy is not None
    other = {"model_type": "roberta", "pad_token_id": 1}
    behind = saved(folder, tmp_path / "roberta", "RobertaForSequenceClassification", **other)
    assert cp.zoo.tokenizer(behind).model_max_length == 30


def test_names_of_classes_are_numbered_as_the_model_numbers_them(folder: Path, texts: Path, tmp_path: Path) -> None:
    names = {"id2label": {0: "Positive", 1: "Negative"}, "label2id": {"Positive": 0, "Negative": 1}}
    model = saved(folder, tmp_path / "named", "BertForSequenceClassification", **names)
    named, other = tmp_path / "named-texts", tmp_path / "other-texts"
    for place, words in ((named, ("negative", "positive")), (other, ("bad", "good"))):
        place.mkdir()
        for part in ("train.tsv", "dev.tsv"):
            head, *rows = (texts / part).read_text().splitlines()
            (place / part).write_text("\n".join([head, *(f"{row[:-1]}{words[int(row[-1])]}" for row in rows)]))
    task, plain = task_of(model, named), task_of(model, texts)
    assert task.classes == ("positive", "negative")
    assert torch.equal(task.test.labels, 1 - plain.test.labels)
    with pytest.raises(TaskError, match="has the labels bad, good; the model's classes are Positive, Negative"):
        task_of(model, other)


def test_heads_and_neurons_go_and_the_file_takes_texts_of_any_length(
    folder: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))
    name = f"hf:{folder}"
    encode = cp.zoo.tokenizer(name)
    splits = cp.zoo.data(str(texts), tokenizer=encode)
    assert isinstance(splits.test, TokenData)
    task = cp.Task(cp.zoo.model(name), **splits.arguments(), name="tiny BERT")
    settings = {"units": ("width",), "calibration": 24, "refit_images": 40, "random_plans": 4, "refit_plans": 0}
    result = cp.compress(
        task,
        cp.Budget(macs="60%"),
        epochs=1,
        attention_weight=1.0,
        rounds=0,
        out=tmp_path / "run",
        solver="anneal",
        time_limit=1.0,
        **settings,
    )
    attention = [unit.name for unit in result.space.units if unit.name.endswith("query:width")]
    assert len(attention) == 2
    assert result.metrics["compressed"]["macs"] <= 0.6 * result.metrics["original"]["macs"]
    file = session(tmp_path / "run" / "model.onnx")
    assert [node.name for node in file.get_inputs()] == ["input_ids", "attention_mask"]
    saved = transformers.AutoTokenizer.from_pretrained(tmp_path / "run" / "tokenizer")
    assert saved("a good film")["input_ids"] == encode("a good film")["input_ids"]
    again = cp.load(tmp_path / "run", lambda: cp.zoo.model(name))
    for batch, tokens in ((1, 3), (3, 11)):
        ids = torch.randint(5, len(WORDS), (batch, tokens))
        mask = torch.ones_like(ids)
        mask[0, tokens // 2 :] = 0
        with torch.no_grad():
            wanted = again(ids, mask).numpy()
        assert np.allclose(run(file, [ids.numpy(), mask.numpy()])[0], wanted, atol=1e-4)


def test_attention_and_neurons_go_whole_and_the_artifact_loads_back(
    folder: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))
    name, layer = f"hf:{folder}", "model.bert.encoder.layer"
    task = task_of(name, texts)
    gone = (f"{layer}.0.attention.output.dense", f"{layer}.1.output.dense")
    result = cp.compress(
        task,
        choices=tuple(f"{end}:depth=drop" for end in gone),
        units=("depth",),
        calibration=24,
        refit_images=40,
        random_plans=4,
        refit_plans=1,
        epochs=1,
        attention_weight=1.0,
        hint_weight=1.0,
        out=tmp_path / "run",
    )
    assert {key for key in result.model.state_dict() if key.startswith(gone)} == {f"{end}.bias" for end in gone}
    assert not any(".0.attention.self" in key or ".1.intermediate" in key for key in result.model.state_dict())
    assert not (tmp_path / "run" / "pretrained").exists()
    file = session(tmp_path / "run" / "model.onnx")
    ids = torch.randint(5, len(WORDS), (3, 11))
    mask = torch.ones_like(ids)
    for model in (cp.load(tmp_path / "run", lambda: cp.zoo.model(name)), cp.load(tmp_path / "run")):
        with torch.no_grad():
            assert np.allclose(run(file, [ids.numpy(), mask.numpy()])[0], model(ids, mask).numpy(), atol=1e-4)


def test_where_all_layers_are_alike_the_network_has_a_form_in_transformers(folder: Path, tmp_path: Path) -> None:
    model = cp.zoo.model(f"hf:{folder}")
    ids = torch.randint(5, len(WORDS), (3, 6))
    inputs = (ids, torch.ones_like(ids))
    task = cp.Task(model, inputs)
    space = find_space(task, ["depth", "width"])
    neurons = [unit for unit in space.units if unit.name.endswith("intermediate.dense:width")]
    alike = {unit.name: unit.options[2].label for unit in neurons}
    drop = {next(unit.name for unit in space.units if unit.kind == "depth"): "drop"}
    for choices, written in ((alike, True), (drop, True), (dict(list(alike.items())[:1]), False)):
        kept = {name: tuple(range(space.unit(name).options[2].channels or 0)) for name in choices if "width" in name}
        small, _ = apply_plan(model, space, Plan(choices, kept))
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        assert save_pretrained(small, place, inputs) == written
        if written:
            again = transformers.AutoModelForSequenceClassification.from_pretrained(place).eval()
            with torch.no_grad():
                logits = again(input_ids=inputs[0], attention_mask=inputs[1]).logits
                assert torch.allclose(logits, small(*inputs), atol=1e-5)
