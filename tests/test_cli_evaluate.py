"""`coldpress evaluate` holds two models against each other, and writes what it found."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coldpress import zoo
from coldpress.evaluate import bootstrap_interval, compare, evaluate, predictor
from coldpress.runtime import export
from command_line import coldpress, words

TWO = """
import torch
from torch import nn

def first(num_classes=10):
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(16, num_classes))

def second():
    torch.manual_seed(1)
    return nn.Sequential(nn.AvgPool2d(7), nn.Flatten(), nn.Linear(16, 10))
"""
DATA = ("--data", "fashion-mini")


class Next(nn.Module):
    """The next byte by the last one alone."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(256, 8), nn.Linear(8, 256)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.table(ids) * mask[..., None])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    path = tmp_path_factory.mktemp("user") / "two.py"
    path.write_text(TWO)
    return f"{path}:first", f"{path}:second"


def test_two_models_are_compared_on_the_same_samples_and_written_down(models: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    result = coldpress("evaluate", "--model", models[0], "--against", models[1], *DATA, "--out", file, "--json")
    assert result.exit_code == 0, result.output
    test = zoo.data("fashion-mini").test
    subject, other = (evaluate(predictor(zoo.model(m)), [((x,), y) for x, y in test.batches(64)]) for m in models)
    wanted = compare(other, subject)
    written, printed = json.loads(file.read_text()), json.loads(result.stdout)
    assert written["comparison"] == printed["comparison"]
    assert printed["comparison"]["against"] == models[1]
    assert printed["comparison"]["difference"] == wanted.difference
    assert wanted.difference == pytest.approx(subject.accuracy - other.accuracy)
    assert printed["comparison"]["p_value"] == wanted.p_value
    assert tuple(printed["comparison"]["bootstrap_interval"]) == bootstrap_interval(*wanted.discordant, wanted.samples)
    assert written["labels"] == test.labels.tolist()
    assert written["classes"] == list(test.classes)
    for side, found in (("subject", subject), ("against", other)):
        assert written["sides"][side]["predictions"] == found.predictions.tolist()
        assert written["sides"][side]["confusion"] == found.confusion(10).tolist()
    table = words(coldpress("evaluate", "--model", models[0], "--against", models[1], *DATA))
    for told in ("exact McNemar test", "its 95 % interval, bootstrap"):
        assert told.replace(" ", "") in table.replace(" ", "")


def test_a_csv_has_a_row_a_class_and_an_onnx_file_can_be_compared_with(models: tuple[str, str], tmp_path: Path) -> None:
    file, scores = tmp_path / "first.onnx", tmp_path / "scores.csv"
    export(zoo.model(models[0]), (torch.zeros(1, 1, 28, 28),), file)
    result = coldpress("evaluate", "--model", models[0], "--against", file, *DATA, "--out", scores, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["comparison"]["discordant"] == [0, 0]
    rows = list(csv.DictReader(scores.open()))
    test = zoo.data("fashion-mini").test
    assert [row["class"] for row in rows] == list(test.classes)
    counts = np.array([[int(row[f"as {name}"]) for name in test.classes] for row in rows])
    assert counts.trace() / counts.sum() == pytest.approx(found["accuracy"])
    assert counts.sum(axis=1).tolist() == [float(row["support"]) for row in rows]


def test_two_classes_have_their_roc_curve(models: tuple[str, str], tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 256, (28, 28, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    (tmp_path / "net.py").write_text(
        "from torch import nn\n\ndef net(num_classes=2):\n"
        "    return nn.Sequential(nn.AvgPool2d(28), nn.Flatten(), nn.Linear(3, num_classes))\n"
    )
    file = tmp_path / "scores.json"
    given = ("--model", f"{tmp_path / 'net.py'}:net", "--data", f"folder:{tmp_path / 'images'}", "--split", "train")
    assert coldpress("evaluate", *given, "--out", file).exit_code == 0
    curve = json.loads(file.read_text())["sides"]["subject"]["scores"]["roc"]
    assert curve[0] == [0.0, 0.0]
    assert curve[-1] == [1.0, 1.0]


def test_a_decoders_file_is_judged_token_by_token(tmp_path: Path) -> None:
    file, book, scores = tmp_path / "next.onnx", tmp_path / "book.txt", tmp_path / "scores"
    book.write_text("".join(f"line {i} of a book\n" for i in range(400)))
    torch.manual_seed(0)
    export(Next(), (torch.zeros(1, 128, dtype=torch.long), torch.ones(1, 128, dtype=torch.long)), file)
    given = ("evaluate", file, "--data", book, "--split", "validation")
    result = coldpress(*given, "--out", scores.with_suffix(".json"), "--json")
    assert result.exit_code == 0, result.output
    written = json.loads(scores.with_suffix(".json").read_text())
    assert len(written["sides"]["subject"]["predictions"]) == len(written["labels"]) == written["samples"]
    assert "confusion" not in written["sides"]["subject"]
    assert "give a .json file" in coldpress(*given, "--out", scores.with_suffix(".csv")).stderr


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--out", "scores.txt"], "a .csv file (by class) or a .json file"),
        (["--against", "nothing.onnx"], "there is nothing at nothing.onnx"),
        (["--against", "cifar_resnet21"], "cifar_resnet20"),
        (["--against", "cifar_resnet20"], "--weights"),
    ],
)
def test_mistakes_are_told(more: list[str], says: str, models: tuple[str, str]) -> None:
    result = coldpress("evaluate", "--model", models[0], *DATA, *more)
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_file_is_kept_unless_it_may_be_replaced(models: tuple[str, str], tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    file.write_text("mine")
    result = coldpress("evaluate", "--model", models[0], *DATA, "--out", file)
    assert result.exit_code == 2
    assert "--overwrite" in result.stderr
    assert file.read_text() == "mine"
