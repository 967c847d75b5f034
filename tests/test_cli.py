"""The commands, on a tiny model of the user's and the bundled data."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import Result

from coldpress.plan import Plan
from coldpress.recipe import ROUND_ONLY, Recipe
from command_line import coldpress, words

TINY = """
import torch
from torch import nn

def net(num_classes=10):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes),
    )

def stopped():
    raise KeyboardInterrupt

def broken():
    raise ValueError("inside the factory")
"""
QUICK = ["--units", "width", "--calibration", "16", "--random-plans", "3", "--refit-plans", "0", "--rounds", "0"]
QUICK += ["--epochs", "0", "--solver", "greedy", "--data", "fashion-mini", "--budget", "macs=50%"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("user") / "tiny.py"
    path.write_text(TINY)
    return f"{path}:net"


@pytest.fixture(scope="module")
def run(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = coldpress("compress", "--model", tiny, *QUICK, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder, result


def test_help_needs_no_torch_and_every_command_shows_an_example() -> None:
    check = "import sys, coldpress.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
    for command in (
        "demo",
        "inspect",
        "train",
        "compress",
        "round",
        "search",
        "worker",
        "evaluate",
        "devices",
        "reproduce",
        "report",
    ):
        result = coldpress(command, "--help")
        assert result.exit_code == 0
        assert f"Example: coldpress {command}" in words(result)


def test_compress_writes_an_artifact_and_prints_what_it_says(run: tuple[Path, Result]) -> None:
    folder, result = run
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["compressed"]["macs"] <= 0.5 * metrics["original"]["macs"]
    assert str(folder / "report.html") in result.stdout
    assert (folder / "report.html").is_file()
    assert f"{100 * metrics['compressed']['accuracy']:.2f} %" in result.stdout
    assert not folder.with_name("run.partial").exists()


def test_a_recipe_equals_its_flags(run: tuple[Path, Result], tmp_path: Path) -> None:
    folder, _ = run
    result = coldpress("compress", "--recipe", folder / "recipe.yaml", "--out", tmp_path / "again")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "again" / "plan.json").read_text() == (folder / "plan.json").read_text()
    assert (tmp_path / "again" / "recipe.yaml").read_text() == (folder / "recipe.yaml").read_text()


def test_a_flag_overrides_the_recipe(run: tuple[Path, Result], tmp_path: Path) -> None:
    data = yaml.safe_load((run[0] / "recipe.yaml").read_text()) | {"data": "nothing-like-it"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(data))
    common = ("compress", "--recipe", tmp_path / "recipe.yaml", "--out", tmp_path / "out")
    assert "nothing-like-it" in words(coldpress(*common))
    assert "fashion-nini" in words(coldpress(*common, "--data", "fashion-nini"))


def test_measurements_are_of_plans_not_of_presets(tiny: str, tmp_path: Path) -> None:
    given = ("--preset", "qianets", "--sparsity", "0.5", "--measurements", tmp_path, "--out", tmp_path / "run")
    result = coldpress("compress", "--model", tiny, "--data", "fashion-mini", *given)
    assert result.exit_code == 2
    assert "--measurements are of plans" in words(result)


def test_a_dry_run_shows_the_plan_and_writes_nothing(
    run: tuple[Path, Result], tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = coldpress("compress", "--model", tiny, *QUICK, "--dry-run")
    assert result.exit_code == 0, result.output
    assert list(tmp_path.iterdir()) == []
    plan = Plan.from_json((run[0] / "plan.json").read_text())
    for unit, choice in plan.choices.items():
        if choice != "keep":
            assert re.search(rf"│ {unit.removesuffix(':width')} +│ width +│ {choice} +│", result.stdout)


def test_a_killed_run_goes_on_with_the_same_plan(run: tuple[Path, Result], tiny: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "coldpress", "compress", "--model", tiny, *QUICK, "--out", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    kept = folder.with_name("run.partial") / "energy.safetensors"
    while not kept.exists():
        try:
            raise AssertionError(f"ended with {process.wait(timeout=0.05)} before it could be killed")
        except subprocess.TimeoutExpired:
            continue
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not folder.exists()
    result = coldpress(*command[3:])
    assert result.exit_code == 0, result.output
    assert (folder / "plan.json").read_text() == (run[0] / "plan.json").read_text()
    steps = [json.loads(line)["step"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert steps.count("energy") == 1


def test_evaluate_gives_the_numbers_of_the_artifact_in_both_forms(run: tuple[Path, Result]) -> None:
    folder, _ = run
    stated = json.loads((folder / "metrics.json").read_text())["compressed"]["accuracy"]
    for form in ("onnx", "torch"):
        result = coldpress("evaluate", folder, "--form", form, "--json")
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        assert found["accuracy"] == pytest.approx(stated, abs=1e-3)
        assert found["accuracy_interval"][0] <= found["accuracy"] <= found["accuracy_interval"][1]
        assert found["latency_ms"]["median"] > 0
    file = coldpress("evaluate", folder / "model.onnx", "--data", "fashion-mini", "--split", "validation")
    assert "validation, 1,000 samples" in words(file)


def test_report_is_rendered_anew(run: tuple[Path, Result]) -> None:
    page = run[0] / "report.html"
    page.unlink()
    result = coldpress("report", run[0])
    assert result.stdout.strip() == str(page)
    assert page.is_file()


def test_inspect_lists_units_options_and_what_is_refused(tiny: str) -> None:
    result = coldpress("inspect", "--model", tiny, "--input-shape", "1,28,28", "--options")
    assert result.exit_code == 0, result.output
    assert "its channels are the model's output" in words(result)
    assert re.search(r"│ +│ +│ int8 +│", result.stdout)


def test_inspect_measures_layers(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path))
    result = coldpress("inspect", "--model", tiny, "--input-shape", "1,28,28", "--units", "bits", "--latency")
    assert result.exit_code == 0, result.output
    assert len(list(tmp_path.glob("latency-*.json"))) == 1
    microseconds = re.search(r"([\d.,]+) us \(the sum of its layers\)", words(result))
    assert microseconds is not None, result.stdout
    assert 1 < float(microseconds[1].replace(",", "")) < 1e5


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty dark and twenty bright images."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, low in (("bright", 128), ("dark", 0)):
        (folder / name).mkdir()
        for i in range(20):
            pixels = rng.integers(low, low + 128, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


NET = """
from torch import nn

def net(num_classes=2):
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(body, nn.Linear(8, num_classes))
"""


def test_train_writes_weights_that_evaluate_to_what_is_stated(images: Path, tmp_path: Path) -> None:
    (tmp_path / "colour.py").write_text(NET)
    model, weights = f"{tmp_path / 'colour.py'}:net", tmp_path / "colour.safetensors"
    named = ("--model", model, "--data", f"folder:{images}")
    result = coldpress("train", *named, "--epochs", "2", "--batch-size", "8", "--precision", "fp32", "--out", weights)
    assert result.exit_code == 0, result.output
    about = json.loads((tmp_path / "colour.json").read_text())
    assert about["settings"]["epochs"] == 2
    assert not (tmp_path / "colour.safetensors.partial").exists()
    found = json.loads(coldpress("evaluate", *named, "--weights", weights, "--json").stdout)
    assert found["accuracy"] == about["accuracy"]["test"]["accuracy"]
    assert json.loads(weights.with_suffix(".json").read_text())["held_out"]
    again = coldpress("train", *named, "--out", weights)
    assert again.exit_code == 2
    assert "--overwrite" in words(again)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "cifar_resnet21", "--data", "fashion-mini"], "cifar_resnet20"),
        (["--model", "cifar_resnet20", "--data", "fashion-mini"], "--weights"),
        (["--model", "fashion_cnn", "--data", "fashion-maxi"], "fashion-mini"),
        (["--model", "fashion_cnn"], "--data"),
        (["--data", "fashion-mini"], "--model"),
        (["--model", "fashion_cnn", "--data", "fashion-mini", "--weights", "no.pt"], "no weights file"),
        (["--model", "fashion_cnn", "--data", "fashion-mini", "--budget", "speed=2"], "latency, size, macs"),
        (["--model", "fashion_cnn", "--data", "fashion-mini", "--units", "width,hight"], "width, rank, bits, depth"),
        (["--model", "fashion_cnn", "--data", "fashion-mini", "--ignore", "conv9"], "conv1"),
        (["--model", "fashion_cnn", "--data", "fashion-mini", "--solver", "magic"], "anneal"),
        (["--model", "fashion_cnn", "--data", "fashion-mini", "--optimizer", "lion"], "sgd, adamw, adam, muon"),
        (["--recipe", "no.yaml"], "no.yaml"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    budget = () if "--budget" in arguments else ("--budget", "macs=50%")
    result = coldpress("compress", *arguments, *budget, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_evaluating_a_model_as_if_it_were_an_artifact_names_the_command(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for target, model in (("hf:NAME", "hf:NAME"), (str(tmp_path), f"hf:{tmp_path}")):
        result = coldpress("evaluate", target, "--data", "fashion-mini")
        assert result.exit_code == 2
        assert f"coldpress evaluate --model {model} --data" in words(result)
    assert "nothing at" in words(coldpress("evaluate", tmp_path / "none"))


def test_nothing_asked_for_no_place_and_an_existing_place_are_told(tmp_path: Path) -> None:
    named = ("compress", "--model", "fashion_cnn", "--data", "fashion-mini")
    assert "--budget" in coldpress(*named, "--out", tmp_path / "x").stderr
    assert "--out" in coldpress(*named, "--budget", "macs=50%").stderr
    assert "--overwrite" in coldpress(*named, "--budget", "macs=50%", "--out", tmp_path).stderr


def test_a_budget_out_of_reach_says_the_smallest(tiny: str, tmp_path: Path) -> None:
    result = coldpress("compress", "--model", tiny, *QUICK[:-1], "macs=1%", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "the smallest" in result.stderr


def test_ctrl_c_says_how_to_go_on(tiny: str, tmp_path: Path) -> None:
    stopped = tiny.replace(":net", ":stopped")
    result = coldpress("compress", "--model", stopped, *QUICK, "--out", tmp_path / "run")
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr


def test_flags_are_the_fields_of_the_recipe() -> None:
    import dataclasses

    flags = words(coldpress("compress", "--help"))
    named = {"ignored_layers": "ignore", "choices": "plan"}
    known = {named.get(f.name, f.name) for f in dataclasses.fields(Recipe) if f.name not in ROUND_ONLY}
    assert [name for name in sorted(known) if f"--{name.replace('_', '-')}" not in flags] == []


def test_a_search_takes_every_setting_of_the_recovery_and_memory() -> None:
    flags = words(coldpress("search", "--help"))
    recovery = ("epochs", "lr", "optimizer", "batch-size", "temperature", "distil-weight", "mixup", "hint-weight")
    assert [name for name in (*recovery, "attention-weight", "memory") if f"--{name}" not in flags] == []


def test_what_a_search_could_not_end_with_is_refused_before_a_trial(tiny: str, tmp_path: Path) -> None:
    given = ["search", "--model", tiny, "--data", "fashion-mini", "--units", "width", "--budget", "macs=60%"]
    given += ["--objectives", "kl", "--storage", tmp_path / "j.log"]
    missing = coldpress(*given, "--trials-out", tmp_path / "none" / "trials.csv")
    assert "cannot be written: give the path of a file in a folder that is there" in words(missing)
    assert "no attention to teach" in words(coldpress(*given, "--attention-weight", "1"))
    assert "give bytes, 512MB say" in words(coldpress(*given, "--memory", "much"))
    assert "no plan can meet size" in words(coldpress(*given, "--memory", "1KB"))


def test_the_demo_replaces_only_an_earlier_demo(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("plan.json", "metrics.json"):
        (folder / name).write_text("{}")
    (folder / "recipe.yaml").write_text("model: mine\n")
    result = coldpress("demo", "--out", folder)
    assert result.exit_code == 2
    assert "holds something else than a demo" in words(result)
    assert (folder / "recipe.yaml").read_text() == "model: mine\n"


def test_a_search_is_shared_by_workers_and_its_best_plan_is_carried_out(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, log = tmp_path / "journal.log", tmp_path / "trials.csv"
    subject = ["--model", tiny, "--data", "fashion-mini", "--units", "width", "--budget", "macs=60%"]
    settings = ["--images", "64", "--rungs", "1", "--objectives", "kl", "--storage", storage, "--refit-images", "64"]
    found = coldpress("search", *subject, *settings, "--n-trials", "4")
    assert found.exit_code == 0, found.output
    assert "4 complete" in words(found)
    more = ["--n-trials", "9", "--workers", "2", "--trials-out", log, "--epochs", "0", "--out", tmp_path / "run"]
    refused = coldpress("search", *subject, *settings, *more, "--seed", "1")
    assert refused.exit_code == 2
    assert "was started with seed 0, not 1" in words(refused)
    found = coldpress("search", *subject, *settings, *more)
    assert found.exit_code == 0, found.output
    assert "9 complete" in words(found)
    lines = log.read_text().splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("trial,state,kl,accuracy,")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["compressed"]["macs"] <= 0.6 * metrics["original"]["macs"]
    assert metrics["solver"]["name"] == "given"
    plan = tmp_path / "run" / "plan.json"
    again = coldpress(
        "compress", *subject, "--plan", plan, "--epochs", "0", "--refit-plans", "0", "--out", tmp_path / "2"
    )
    assert again.exit_code == 0, again.output
    assert (
        Plan.from_json((tmp_path / "2" / "plan.json").read_text()).choices == Plan.from_json(plan.read_text()).choices
    )
    joined = coldpress("worker", storage)
    assert "0 trials done here, 9 in all" in words(joined)
    for name, seed in (("same.py", 0), ("other.py", 1)):
        (tmp_path / name).write_text(TINY.replace("manual_seed(0)", f"manual_seed({seed})"))
    monkeypatch.chdir(tmp_path)
    assert "0 trials done here, 9 in all" in words(coldpress("worker", storage, "--model", "same.py:net"))
    refused = coldpress("worker", storage, "--model", "other.py:net")
    assert "are not those that this study was started with; where its files lie elsewhere" in words(refused)
    refused = coldpress("worker", storage, "--model", "none.py:net")
    assert "no file none.py, which the model 'none.py:net' names; check the path; where its files" in words(refused)
    again = coldpress("search", "--model", "same.py:net", *subject[2:], *settings, "--n-trials", "9")
    assert "9 complete" in words(again)


def test_solvers_are_held_against_each_other_and_finished_runs_kept(tmp_path):
    given = [
        "benchmark",
        "solvers",
        "--families",
        "qubo-64",
        "--solvers",
        "dwave-descent,dwave-sa",
        "--seconds",
        "0.05",
    ]
    given += ["--executor", "none", "--out", tmp_path / "found"]
    first = coldpress(*given, "--seeds", "2")
    assert first.exit_code == 0, first.output
    before = (tmp_path / "found/cells.jsonl").read_text().split("\n")
    again = coldpress(*given, "--seeds", "3")
    assert again.exit_code == 0, again.output
    lines = [line for line in (tmp_path / "found/cells.jsonl").read_text().split("\n") if line]
    assert lines[:4] == [line for line in before if line]
    assert len(lines) == 6
    results = json.loads((tmp_path / "found/results.json").read_text())
    assert {row["runs"] for row in results["rows"]} == {3}
    assert "dwave-descent" in (tmp_path / "found/benchmark.html").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--families", "qubo64"], "did you mean 'qubo-64'"),
        (["--solvers", "anneel"], "did you mean 'anneal'"),
        (["--families", "widths", "--executor", "cluster"], "give none, processes, or dask:ADDRESS"),
        (["--families", "widths", "--seconds", "0"], "seconds is 0"),
        (["--families", "widths", "--within", "2"], "within is 2"),
    ],
)
def test_mistakes_in_a_contest_are_told_in_a_line(flags, message, tmp_path):
    result = coldpress("benchmark", "solvers", "--out", tmp_path / "found", *flags)
    assert result.exit_code == 2
    assert message in words(result)
