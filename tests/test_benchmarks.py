"""The benchmark scripts, on the bundled network and images, or on rows made by hand."""

import importlib
import itertools
import json
import math
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

import coldpress as cp
from coldpress.few_bits.choice import roundable

FOLDER = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the scripts are in the repository alone")
NAMES = {"model": "fashion_cnn", "weights": None, "data": "fashion-mini", "data_dir": None, "tokens": None}
BUNDLED = ("--model", "fashion_cnn", "--data", "fashion-mini")


@pytest.fixture
def script(monkeypatch):
    """Imports a script by its name."""
    monkeypatch.syspath_prepend(FOLDER)

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def ran(module: ModuleType, monkeypatch, out: Path, *words: str) -> dict:
    """What a script writes, called with these words."""
    given = [f"{module.__name__}.py", *BUNDLED, *words, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", given)
    module.main()
    return json.loads(out.read_text())


def layer_row(seed: int, layer: str, ratio: float) -> dict:
    errors = {"one_pass": 2.0, "search": 2.0 * ratio, "fitted": ratio, "one_pass_on_fitted": 4.0 * ratio}
    return {"layer": layer, "bits": 3, "sparsity": None, "seed": seed, **errors, "seconds": 1.0, "seconds_fitted": seed}


def test_rounding_tells_medians_over_whole_seeds(script):
    rows = [layer_row(seed, layer, 0.1 * (seed + 1) * k) for seed in (0, 1, 5) for layer, k in (("a", 1), ("b", 4))]
    line = script("rounding").table([*rows, layer_row(7, "a", 9.0)]).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["3", "2", "3"]  # of seed 7 a layer is missing
    assert cells[3] == "0.400 (0.200 to 1.200), worst layer 0.800"
    assert cells[5] == "0.250 (0.250 to 0.250), worst layer 0.250"
    assert cells[6] == "4 (2 to 12)"


def test_rounding_goes_on_with_the_rows_that_are_missing(script, monkeypatch, tmp_path):
    module, out = script("rounding"), tmp_path / "rounding.json"
    words = ("--bits", "3", "--images", "16", "--every", "4", "--seeds", "0")
    first = ran(module, monkeypatch, out, *words)
    assert first["torch_threads"] == first["numba_threads"] == 1
    out.write_text(json.dumps({**first, "rows": first["rows"][1:]}))
    again = ran(module, monkeypatch, out, *words)
    errors = ("one_pass", "search", "fitted", "one_pass_on_fitted")
    told = [
        {(row["layer"], row["sparsity"]): [row[k] for k in errors] for row in part["rows"]} for part in (first, again)
    ]
    assert told[0] == told[1]
    assert [row["layer"] for row in again["rows"]][-1] == first["rows"][0]["layer"]
    assert len(again["rows"]) == len(first["rows"])
    assert "Medians over seeds" in out.with_suffix(".md").read_text()


def small(folder: Path) -> tuple[str, ...]:
    """Words that name a network of two small convolutions."""
    path = folder / "small.py"
    path.write_text(
        "import torch\nfrom torch import nn\n\n\ndef net(num_classes=10):\n    torch.manual_seed(0)\n"
        "    first, second = nn.Conv2d(1, 6, 3, 2), nn.Conv2d(6, 8, 3, 2)\n"
        "    end = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)\n"
        "    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), *end)\n"
    )
    return "--model", f"{path}:net"


def test_channels_are_chosen_by_every_method(script, monkeypatch, tmp_path):
    words = ("--channels", "6", "--sparsities", "0.5", "--num-layers", "1", "--calibration", "8", "--images", "20")
    found = ran(script("qaoa_pruning"), monkeypatch, tmp_path / "qaoa.json", *small(tmp_path), *words, "--seeds", "0")
    energies = {(row["group"], row["method"]): row["energy"] for row in found["rows"]}
    groups = {group for group, _ in energies}
    assert "all together" in groups
    for group in groups:
        least = energies[group, "exact"]
        assert all(least <= energies[group, method] + 1e-9 for method in ("QAOA", "magnitude", "random"))
    assert "| QAOA |" in (tmp_path / "qaoa.md").read_text()


def test_factors_are_annealed_in_every_form(script, monkeypatch, tmp_path):
    words = ("--layers", "2", "--shares", "0.5", "--images", "8")
    found = ran(script("annealed_factors"), monkeypatch, tmp_path / "factors.json", *small(tmp_path), *words)
    for row in found["rows"]:
        assert row["annealed"] <= row["descent"] <= row["one_pass"] * (1 + 1e-9)
        assert 0 < row["bytes"] < row["bytes_dense"]
    assert len({(row["left"], row["right"]) for row in found["rows"]}) == len(found["rows"]) > 4
    assert "| left, right |" in (tmp_path / "factors.md").read_text()


def test_comparators_in_whole_bits_just_reach_the_bytes(script):
    module = script("few_bits")
    shapes = {"a": (4, 10), "b": (8, 33), "c": (8, 70), "d": (16, 90)}
    for least in (100, 700, 901, 1103, 1500):
        forms = module.whole_bits(shapes, least)
        sizes = {
            sum(cp.Form(bits).bytes(*shape) for bits, shape in zip(some, shapes.values()))
            for low in range(2, 8)
            for some in itertools.product((low, low + 1), repeat=4)
        }
        size = sum(form.bytes(*shapes[name]) for name, form in forms.items())
        assert size == min(found for found in sizes if found >= least)
        assert len({form.bits for form in forms.values()}) <= 2
    assert module.whole_bits(shapes, 10**6) == dict.fromkeys(shapes, cp.Form(8))


def test_comparators_in_our_forms_get_no_fewer_bytes(script):
    module, args = script("few_bits"), Namespace(**NAMES, images=32, calibration=16)
    task = script("record").task_of(args, 0)
    forms = {name: cp.Form(2, 0.5) for name in roundable(task)}
    plain = module.one_pass(task, args, 0, "nearest", forms, 0)
    least = plain["bytes"] + 100
    found = module.one_pass(task, args, 0, "nearest", forms, least)
    assert found["bytes"] >= least
    assert set(plain["forms"].values()) == {"2 bits, 0.5 zero"} != set(found["forms"].values())


def test_layers_in_floats_count_for_comparators_too(script):
    module, args = script("few_bits"), Namespace(**NAMES, images=32, calibration=16)
    task = script("record").task_of(args, 0)
    *names, left = roundable(task)
    shapes = module.shapes_of(task)
    least = sum(cp.Form(4).bytes(*shapes[name]) for name in names) + 4 * math.prod(shapes[left])
    found = module.one_pass(task, args, 0, "nearest", dict.fromkeys(names, cp.Form(4)), least)
    assert found["bytes"] == least
    assert found["forms"] == dict.fromkeys(names, "4 bits")
    assert found["average_bits"] == pytest.approx(8 * least / sum(math.prod(shape) for shape in shapes.values()))


def test_comparators_are_fitted_to_none_of_the_samples_that_judge(script):
    module, args = script("few_bits"), Namespace(images=32, calibration=16)
    task = script("record").task_of(Namespace(**NAMES), 0)
    (x,), labels = task.calibration(48)
    other = torch.cat([x[:32], x[32:].flip(-1)])
    found = []
    for images in (x, other):
        given = cp.Task(task.model, x[:1], train=[(images, labels)], test=task.test, hold_out=False)
        forms = dict.fromkeys(roundable(given), cp.Form(3))
        found.append(module.one_pass(given, args, 0, "gptq", forms, 0))
    assert found[0]["accuracy"] == found[1]["accuracy"]
    assert found[0]["kl"] != found[1]["kl"]


@pytest.mark.slow
def test_ours_in_few_bits_tells_its_seconds_and_its_peak_of_memory(script, monkeypatch, tmp_path):
    words = ("--bits", "4", "--images", "32", "--calibration", "16", "--seeds", "0", "--threads", "1")
    found = ran(script("few_bits"), monkeypatch, out := tmp_path / "few.json", *small(tmp_path), *words)
    (row,) = [row for row in found["rows"] if row["method"] == "ours"]
    assert row["seconds"] > 0
    assert 10**7 < row["peak"] < 10**11
    line = next(line for line in out.with_suffix(".md").read_text().splitlines() if "| ours |" in line)
    assert line.endswith(f"| {row['seconds']:.1f} | {row['peak'] / 1e9:.2f} |")


def test_the_table_of_the_published_qubo_holds_ranks_and_accuracies(script):
    ranks = [{"energy": "Taylor", "rate": None, "what": f"rank correlation, {k}"} for k in ("rising", "equal")]
    row = {"energy": "Taylor", "rate": 0.5, "what": "re-fitted", "filters_gone": 3, "bytes": 12340}
    rows = [{**ranks[0], "value": 0.5}, {**ranks[1], "value": -0.25}]
    rows += [{**row, "accuracy": 0.75}, {**row, "accuracy": 0.25}]
    lines = script("published_qubo").table(rows).splitlines()
    assert "| Taylor | 0.500 | -0.250 |" in lines
    assert lines[-1] == "| 0.5 | Taylor | 3 (3 to 3) | 12.3 (12.3 to 12.3) | re-fitted | 50.00 (25.00 to 75.00) |"


@pytest.mark.slow
def test_the_published_qubo_goes_on_with_every_row_that_is_missing(script, monkeypatch, tmp_path):
    module, out = script("published_qubo"), tmp_path / "qubo.json"
    words = ("--energies", "weight norm", "--images", "16", "--samples", "4", "--refit-images", "32", "--seeds", "0")
    words = (*small(tmp_path), *words)
    first = ran(module, monkeypatch, out, *words)
    whole = {(row["energy"], row["what"]): row.get("accuracy", row.get("value")) for row in first["rows"]}
    named = itertools.product(("uniform bits", "weight norm"), ("as published", "re-fitted"))
    ranks = (("weight norm", f"rank correlation, {kind}") for kind in ("rising", "equal"))
    assert set(whole) == {("original", "as it is"), *named, *ranks}
    missing = {("uniform bits", "re-fitted"), ("weight norm", "rank correlation, rising")}
    rows = [row for row in first["rows"] if (row["energy"], row["what"]) not in missing]
    out.write_text(json.dumps({**first, "rows": rows}))
    again = ran(module, monkeypatch, out, *words)
    assert {(row["energy"], row["what"]): row.get("accuracy", row.get("value")) for row in again["rows"]} == whole
    lines = out.with_suffix(".md").read_text().splitlines()
    assert any(
        line.startswith(f"| weight norm | {whole['weight norm', 'rank correlation, rising']:.3f}") for line in lines
    )
    accuracy = 100 * whole["weight norm", "re-fitted"]
    assert any(
        line.startswith("| 0.5 | weight norm") and line.endswith(f"re-fitted | {accuracy:.2f} |") for line in lines
    )


def test_gaps_of_single_units_have_one_denominator(script):
    module = script("structure_scale")
    row = {"n": 64, "rank": 4, "limit": 0.2, "seed": 0, **module.measure(64, 4, 0.2, 0)}
    assert row["gap"] == pytest.approx(max(row["energy"] / row["bound"] - 1.0, 0.0))
    assert all(row["gap"] <= row[name] for name in ("magnitude", "diagonal", "swaps", "frank_wolfe"))
    network = {"n": "net", "rank": None, "limit": 0.5, "units": 9, "alpha": 0.5, "gap": 0.0123}
    network |= {f"{energy}_{what}": 0.75 for energy in ("fisher", "curvature") for what in ("accuracy", "kl")}
    told = module.table([row, network])
    assert f"| 64, 4, 0.2 s | 1 | {row['gap']:.3%} (" in told
    assert "9 single units: gap 1.23%; accuracy 75.00% (KL 0.750)" in told
    assert module.above(3.0, 2.0) == 0.5


def test_a_population_searches_a_table_with_its_evaluations_counted(script):
    asked = []

    def value(index: tuple[int, ...]) -> float:
        asked.append(index)
        return float(np.square(np.array(index) - (2, 0, 1, 3)).sum())

    table = SimpleNamespace(shape=(4, 4, 4, 4), value=value)
    best = script("search_table").searched(table, "genetic", 3, 190)
    assert len(asked) == len(best) == 190
    assert best == sorted(best, reverse=True)
    assert best[-1] == 0.0 < best[19]


def test_evaluations_to_the_solvers_loss_are_shown_of_all_that_were_given_so_many(script):
    module = script("search_table")
    rows = [
        {"sampler": name, "seed": 0, "reached": reached, "best": 0.0, "solver": 0.1, **given}
        for name, reached, given in (
            ("tpe", 89, {}),
            ("genetic", None, {"evaluations": module.MOST}),
            ("policy gradient", 120, {}),  # an older row, of 200
            ("random", 150, {"evaluations": 200}),
        )
    ]
    last = {
        words[1]: words[5]
        for line in module.shown(rows, "nats").split("\n")
        if (words := [*map(str.strip, line.split("|"))])[1:]
    }
    assert [last[name] for name in ("tpe", "genetic", "policy gradient", "random")] == ["89", "more than 1000", "", ""]
    assert {"genetic", "policy gradient"} < set(module.LONG)


@pytest.mark.slow
def test_the_table_holds_kl_and_accuracy_of_every_plan(script, tmp_path):
    module = script("search_table")
    args = Namespace(**NAMES, table_units=2, images=16, runs=str(tmp_path), loss="accuracy")
    table = module.Table(args)
    assert table.losses.shape == table.shape
    np.testing.assert_allclose(table.losses * 16, np.round(table.losses * 16), atol=1e-9)  # shares of 16 images
    (path,) = tmp_path.iterdir()
    with np.load(path) as file:
        kl = file["losses"]
    assert kl.flat[0] == pytest.approx(0.0, abs=1e-6)
    assert kl.max() > 0.0
    np.savez(path, losses=kl + 1.0)  # as older versions wrote it
    assert (table._measured(None, "losses") == kl + 1.0).all()
