"""The page as a whole: complete where data are, honest where they are not, and never more than one file."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from invented_run import details, metrics, write_artifact
from onnx import TensorProto, helper, numpy_helper

from coldpress.errors import ArtifactError
from coldpress.report import render
from coldpress.report.page import headline, snippet

SECTIONS = [
    "comparison",
    "pareto",
    "layers",
    "factors",
    "correlation",
    "latency",
    "confusion",
    "refused",
    "solver",
    "recovery",
    "deploy",
    "reproduce",
]


def read(folder: Path) -> str:
    return render(folder).read_text(encoding="utf-8")


def drawings(html: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", html, flags=re.S)


def test_every_part_is_there_and_nothing_is_left_out(artifact: Path) -> None:
    html = read(artifact)
    assert [name for name in SECTIONS if f'<section id="{name}"' not in html] == []
    assert "Left out:" not in html
    assert len(drawings(html)) == 2 + 2 + 2 + 2 + 1 + 2


def test_headline_names_speed_size_and_accuracy() -> None:
    assert headline(metrics()) == [("5.18×", "faster"), ("10.0×", "smaller"), ("−0.42", "points of accuracy")]


def test_a_slower_and_larger_model_is_called_so() -> None:
    data = metrics()
    data["original"], data["compressed"] = data["compressed"], data["original"]
    assert [words for _, words in headline(data)][:2] == ["slower", "larger"]


def test_page_asks_nothing_of_the_network(artifact: Path) -> None:
    html = read(artifact)
    assert not re.search(r"https?:|\bsrc=|@import|url\(|<script|<link(?! rel=\"icon\" href=\"data:)", html)


def test_drawings_are_well_formed(artifact: Path) -> None:
    for drawing in drawings(read(artifact)):
        root = ElementTree.fromstring(drawing)
        assert root.get("aria-label")
        assert "nan" not in drawing
        assert "inf" not in drawing.lower().replace("information", "")


def test_without_details_the_page_says_what_is_absent(tmp_path: Path) -> None:
    html = read(write_artifact(tmp_path / "run", metrics(), None))
    assert html.count("Left out:") == 8
    assert drawings(html) == []


@pytest.mark.parametrize("data", [{}, {"original": None, "compressed": {"accuracy": float("nan")}}])
def test_empty_or_unmeasured_metrics_still_make_a_page(tmp_path: Path, data: dict[str, Any]) -> None:
    html = read(write_artifact(tmp_path / "run", data, {}))
    assert "not measured" in html
    assert "nan" not in html


@pytest.mark.parametrize("part", sorted(details()))
def test_each_part_of_the_details_may_be_missing_or_empty(tmp_path: Path, part: str) -> None:
    data = details()
    for value in (None, type(data[part])()):
        data[part] = value
        assert "<h1>" in read(write_artifact(tmp_path / "run", metrics(), data))


def test_words_from_outside_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    data = details(classes=[f"{evil}{i}" for i in range(4)])
    data["refused"] = {evil: evil}
    html = read(write_artifact(tmp_path / "run", {**metrics(), "name": evil, "command": evil}, data))
    assert "<script" not in html


def test_many_classes_are_listed_not_drawn(tmp_path: Path) -> None:
    data = details(classes=[f"class {i}" for i in range(40)])
    html = read(write_artifact(tmp_path / "run", metrics(), data))
    assert "(40 classes)" in html
    assert "confusion matrix" not in html
    assert re.search(r"class \d+ taken for class \d+", html)


def test_validation_accuracy_is_not_passed_off_as_test(tmp_path: Path) -> None:
    html = read(write_artifact(tmp_path / "run", metrics(split="validation"), details()))
    assert "no test data was given" in html
    assert "Accuracy (validation)" in html


def test_training_curve_is_held_against_validation_accuracy_only(tmp_path: Path) -> None:
    data = metrics()
    folder = tmp_path / "run"
    assert "on the same data" not in read(write_artifact(folder, data, details()))
    data["validation"] = {"original": 0.89}
    assert "on the same data" in read(write_artifact(folder, data, details()))


def test_rendering_again_replaces_the_page_and_leaves_nothing_beside(artifact: Path) -> None:
    first = read(artifact)
    assert read(artifact) == first
    assert not list(artifact.glob("*.partial"))


def test_steps_of_a_log_that_was_cut_short_are_read(artifact: Path) -> None:
    html = read(artifact)
    assert "sensitivities" in html
    assert "cut sho" not in html


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not a folder"):
        render(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"no metrics\.json"):
        render(tmp_path)
    for text in ("{", "[1]", '{"original": 3}'):
        (tmp_path / "metrics.json").write_text(text)
        with pytest.raises(ArtifactError, match="run compress again"):
            render(tmp_path)


def classifier(path: Path, name: str, inputs: int, classes: int) -> None:
    """An ONNX file that flattens and multiplies."""
    weight = numpy_helper.from_array(np.ones((inputs, classes), np.float32), "weight")
    nodes = [helper.make_node("Flatten", [name], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["logits"])]
    given = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 32, 32])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])
    graph = helper.make_graph(nodes, "classifier", [given], [made], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


@pytest.mark.parametrize(("name", "known"), [("input", True), ('it\'s\n"odd"', True), ("input", False)])
def test_deployment_snippet_runs_as_pasted(tmp_path: Path, name: str, known: bool) -> None:
    classifier(tmp_path / "model.onnx", name, 3 * 32 * 32, 10)
    data = details() if known else {}
    if known:
        data["input"]["names"] = [name]
    done = subprocess.run(
        [sys.executable, "-c", snippet(metrics(), data)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.replace("'", '"')) == (["airplane"] if known else [0])
