"""Data sets of the hub: how a name is asked for, and how their classes are numbered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_text import Words, distinct

from coldpress.errors import TaskError
from coldpress.zoo import hub_data

datasets = pytest.importorskip("datasets", reason="needs the extra coldpress[hf]")

NLI = ["entailment", "neutral", "contradiction"]


def made(names: list[str] | None = None, **parts: list[int]) -> Any:
    """A data set of texts with these labels, by part; ``names`` are those of the classes."""
    label = datasets.Value("int64") if names is None else datasets.ClassLabel(names=names)
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
    texts = iter([text for text, _ in distinct(49)])
    rows = {part: {"text": [next(texts) for _ in labels], "label": labels} for part, labels in parts.items()}
    return datasets.DatasetDict({part: datasets.Dataset.from_dict(row, features) for part, row in rows.items()})


class Hub:
    """Answers as ``load_dataset`` does, and keeps what it was asked."""

    def __init__(self, known: tuple[str, ...], data: Any) -> None:
        self.known, self.data, self.asked = known, data, list[tuple[str, ...]]()

    def __call__(self, *arguments: str) -> Any:
        self.asked.append(arguments)
        if arguments != self.known:
            raise FileNotFoundError(f"there is no {' of '.join(reversed(arguments))}")
        return self.data


@pytest.mark.parametrize(
    ("name", "known", "asked"),
    [
        ("imdb", ("imdb",), [("imdb",)]),
        ("stanfordnlp/sst2", ("stanfordnlp/sst2",), [("stanfordnlp/sst2",)]),
        ("glue/sst2", ("glue", "sst2"), [("glue/sst2",), ("glue", "sst2")]),
        ("nyu-mll/glue/sst2", ("nyu-mll/glue", "sst2"), [("nyu-mll/glue", "sst2")]),
    ],
)
def test_a_name_is_owner_name_and_configuration(
    name: str, known: tuple[str, ...], asked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(known, made(train=[0, 1] * 10, test=[0, 1]))
    monkeypatch.setattr(datasets, "load_dataset", hub)
    assert len(hub_data.read(name, Words())[2] or ()) == 2
    assert hub.asked == asked


def test_a_data_set_that_is_nowhere_is_told_as_it_was_sought(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datasets, "load_dataset", Hub(("other",), None))
    with pytest.raises(TaskError, match="hf:a/b cannot be had: there is no a/b; there is no b of a"):
        hub_data.read("a/b", Words())
    with pytest.raises(TaskError, match="there is no folder"):
        hub_data.read(f"{tmp_path}/none", Words())


@pytest.fixture
def parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the hub has them, still empty; what the library keeps of it goes away too."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set" / "data").mkdir(parents=True)
    return tmp_path / "set"


def write(folder: Path, data: Any) -> str:
    for part, rows in data.items():
        rows.to_parquet(folder / "data" / f"{part}-00000-of-00001.parquet")
    return str(folder)


def test_a_folder_of_parquet_files_is_read_with_its_names_of_classes(parquet: Path) -> None:
    name = write(parquet, made(["bad", "good"], train=[0, 1] * 10, validation=[1, 0, 1], test=[-1, -1]))
    train, validation, test = hub_data.read(name, Words())
    assert train is not None
    assert validation is not None
    assert test is not None
    assert (len(train) + len(validation), test.labels.tolist(), test.classes) == (20, [1, 0, 1], ("bad", "good"))


@pytest.mark.parametrize("parts", [{"first": [0, 1], "second": [1, 0]}, {"train": [-1, -1], "test": [-1]}])
def test_a_data_set_of_which_nothing_can_be_read_is_told_with_its_splits(
    parts: dict[str, list[int]], parquet: Path
) -> None:
    name = write(parquet, made(**parts))
    with pytest.raises(TaskError, match=rf"has the splits {', '.join(parts)}; none of those that are read \(train, "):
        hub_data.read(name, Words())


def test_classes_are_numbered_as_the_model_names_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = made(NLI, train=[0, 1, 2] * 8, validation_matched=[0, 1, 2, 0], test_matched=[-1, -1, -1])
    monkeypatch.setattr(datasets, "load_dataset", Hub(("mnli",), data))

    def read(*class_names: str) -> tuple[list[int], tuple[str, ...]]:
        encode = Words()
        encode.class_names = class_names  # type: ignore[attr-defined]
        *_, test = hub_data.read("mnli", encode)
        assert test is not None
        return test.labels.tolist(), test.classes

    assert read() == ([0, 1, 2, 0], tuple(NLI))
    assert read("CONTRADICTION", "ENTAILMENT", "NEUTRAL") == ([1, 2, 0, 1], ("contradiction", "entailment", "neutral"))
    assert not caplog.records
    assert read("yes", "perhaps", "no") == ([0, 1, 2, 0], tuple(NLI))
    assert "are taken for the model's ('yes', 'perhaps', 'no'), in this order" in caplog.text
    with pytest.raises(TaskError, match="has the labels neutral; the model's classes are contradiction, entailment"):
        read("contradiction", "entailment")


@pytest.mark.parametrize("names", [None, ["1", "2"]])
def test_classes_without_names_keep_their_numbers(names: list[str] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", Hub(("it",), made(names, train=[0, 1] * 10, test=[1, 0, 1])))
    *_, test = hub_data.read("it", Words())
    assert test is not None
    assert (test.labels.tolist(), test.classes) == ([1, 0, 1], ())
