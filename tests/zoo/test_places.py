"""Names of models and data hold in another folder once their files are told by full paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from coldpress.zoo.places import full_path, placed_data, placed_model


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("bert", "images", "cifar10"):
        (tmp_path / name).mkdir()
    for name in ("net.py", "a.tsv", "book.txt"):
        (tmp_path / name).touch()
    (tmp_path / "link.safetensors").symlink_to("book.txt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_files_that_are_there_are_told_by_full_paths(here: Path) -> None:
    assert placed_model("hf:bert") == f"hf:{here}/bert"
    assert placed_model("net.py:build") == f"{here}/net.py:build"
    assert placed_data("folder:./images") == f"folder:{here}/images"
    assert placed_data("book.txt") == f"{here}/book.txt"
    named = "tsv:train=a.tsv,test=none.tsv,text=a.tsv+b,label=label"
    assert placed_data(named) == f"tsv:train={here}/a.tsv,test=none.tsv,text=a.tsv+b,label=label"
    assert full_path("link.safetensors") == f"{here}/link.safetensors"


@pytest.mark.parametrize("name", ["hf:glue/sst2", "cifar10", "fashion-mini", "none.tsv", "folder:"])
def test_other_names_of_data_stay(here: Path, name: str) -> None:
    assert placed_data(name) == name


@pytest.mark.parametrize("name", ["hf:none", "cifar_resnet20", "timm:resnet18", "package.module:build", "none.py:f"])
def test_other_names_of_models_stay(here: Path, name: str) -> None:
    assert placed_model(name) == name


def test_a_folder_with_a_comma_does_not_part_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a,b"
    folder.mkdir()
    (folder / "a.tsv").touch()
    monkeypatch.chdir(folder)
    assert placed_data("tsv:train=a.tsv") == "tsv:train=a.tsv"
