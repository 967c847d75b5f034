"""The benchmark scripts, on the bundled network and images, or on rows made by hand."""

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="the scripts are in the repository alone")
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
    told = [{(row["layer"], row["sparsity"]): [row[k] for k in errors] for row in part["rows"]} for part in (first, again)]
    assert told[0] == told[1]
    assert [row["layer"] for row in again["rows"]][-1] == first["rows"][0]["layer"]
    assert len(again["rows"]) == len(first["rows"])
    assert "Medians over seeds" in out.with_suffix(".md").read_text()
