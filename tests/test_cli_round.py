"""`coldpress round` on a tiny model of the user's and the bundled data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from coldpress.cli import app
from coldpress.commands.round import speed
from coldpress.recipe import ROUND_ONLY

TINY = """
import torch
from torch import nn

def net(num_classes=10):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, num_classes),
    )
"""


def coldpress(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("user") / "tiny.py"
    path.write_text(TINY)
    return f"{path}:net"


@pytest.fixture(scope="module")
def run(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("runs") / "few"
    named = ("--model", tiny, "--data", "fashion-mini", "--calibration", 32, "--refit-images", 64)
    result = coldpress("round", *named, "--bits", 3, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder, result


def test_it_prints_what_the_artifact_says(run: tuple[Path, Result]) -> None:
    folder, result = run
    metrics, text = json.loads((folder / "metrics.json").read_text()), re.sub(r"[\s│]+", " ", result.output)
    after = metrics["compressed"]
    assert f"{100 * after['accuracy']:.2f} %" in text
    assert f"Packed: {after['packed_bytes'] / 1e3:.2f} kB" in text
    assert "2 at 3 bits" in text
    assert speed(metrics) in text


def test_evaluate_gives_the_numbers_of_the_artifact_in_both_forms(run: tuple[Path, Result]) -> None:
    folder, _ = run
    metrics = json.loads((folder / "metrics.json").read_text())
    for form in ("onnx", "torch"):
        result = coldpress("evaluate", folder, "--form", form, "--json")
        assert result.exit_code == 0, result.output
        told = json.loads(result.output)
        assert told["accuracy"] == pytest.approx(metrics["compressed"]["accuracy"], abs=2 / told["samples"])
        assert ("packed" in told["subject"]) == (form == "torch")


def test_a_damaged_file_ends_in_one_line(run: tuple[Path, Result], tmp_path: Path) -> None:
    for file in run[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    data = bytearray((tmp_path / "packed.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "packed.safetensors").write_bytes(data)
    result = coldpress("evaluate", tmp_path, "--form", "torch")
    assert result.exit_code == 2
    assert "checksum" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_recipe_rounds_again(run: tuple[Path, Result], tmp_path: Path) -> None:
    result = coldpress("round", "--recipe", run[0] / "recipe.yaml", "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    first, again = (load_file(folder / "packed.safetensors") for folder in (run[0], tmp_path / "again"))
    for name, tensor in first.items():  # of sums in floats the last bits depend on where they lie in memory
        assert torch.allclose(tensor, again[name], rtol=1e-5, atol=1e-6), name
        assert not name.endswith(".levels") or torch.equal(tensor, again[name]), name
    wrong = coldpress("compress", "--recipe", run[0] / "recipe.yaml", "--budget", "macs=50%", "--out", tmp_path / "x")
    assert wrong.exit_code == 2
    assert "coldpress round" in wrong.stderr


def test_processes_round_to_the_same_levels(run: tuple[Path, Result], tmp_path: Path) -> None:
    recipe = ("--recipe", run[0] / "recipe.yaml", "--executor", "processes")
    result = coldpress("round", *recipe, "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    first, again = (load_file(folder / "packed.safetensors") for folder in (run[0], tmp_path / "again"))
    levels = [name for name in first if name.endswith(".levels")]
    assert levels
    assert all(torch.equal(first[name], again[name]) for name in levels)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "either bits"),
        (("--bits", 4, "--average-bits", 3), "either bits"),
        (("--bits", 1), "bits is 1; allowed: from 2 to 8"),
        (("--average-bits", 0), "above 0"),
        (("--bits", 4, "--group-size", 0), "1 column or more"),
        (("--average-bits", 1.2), "the least is"),
        (("--factors", "ternary", "--rank", 2), "factors is 'ternary'; allowed: LEFT,RIGHT"),
        (("--factors", "float,ternary"), "factors take a rank"),
        (("--factors", "float,binary", "--rank", 2), "'binary' is no form of a factor"),
        (("--factors", "float,ternary", "--rank", 50), "no layer takes fewer bytes"),
        (("--bits", 4, "--ignore", "0", "--ignore", "5"), "no layer of this model can be rounded"),
        (("--bits", 4, "--solver", "magic"), "anneal"),
        (("--bits", 4, "--executor", "magic"), "give none, processes, or dask:ADDRESS"),
        (("--bits", 4, "--executor", "processes", "--processes", 0), "processes is 0"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    arguments: tuple[object, ...], says: str, tiny: str, tmp_path: Path
) -> None:
    result = coldpress("round", "--model", tiny, "--data", "fashion-mini", *arguments, "--out", tmp_path / "few")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_no_place_and_an_existing_place_are_told(tiny: str, tmp_path: Path) -> None:
    named = ("round", "--model", tiny, "--data", "fashion-mini", "--bits", 4)
    assert "--out" in coldpress(*named).stderr
    assert "--overwrite" in coldpress(*named, "--out", tmp_path).stderr


def test_flags_are_the_fields_of_the_recipe_that_are_of_rounding_alone() -> None:
    flags = coldpress("round", "--help").output
    assert [name for name in ROUND_ONLY if f"--{name.replace('_', '-')}" not in flags] == []


def test_speed_is_told_only_where_it_was_measured() -> None:
    def told(before: float, after: float, spread: float) -> str:
        sides = {"original": before, "compressed": after}
        return speed({side: {"latency_ms": {"median": time, "spread": spread}} for side, time in sides.items()})

    assert "size, not speed" in told(2.0, 2.0, 0.1)
    assert "size, not speed" in told(2.0, 1.95, 0.1)
    assert "size, not speed" in told(2.0, 3.0, 0.1)
    assert "size, not speed" not in told(2.0, 1.0, 0.1)
