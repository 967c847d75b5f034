"""The notebook of edge pruning runs as it is committed, and shows the table and the figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "edge_pruning.ipynb"

nbformat = pytest.importorskip("nbformat", reason="notebooks are run by nbclient; pip install -e '.[dev]'")


def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs(found: Any, kind: str) -> list[Any]:
    """What cells of code show in that form."""
    shown = [output for cell in found.cells if cell.cell_type == "code" for output in cell.outputs]
    return [output["data"][kind] for output in shown if kind in output.get("data", {})]


def test_it_is_committed_without_outputs() -> None:
    code = [cell for cell in notebook().cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.slow
def test_it_runs_and_shows_the_comparison_and_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient; pip install -e '.[dev]'")
    pytest.importorskip("ipykernel", reason="notebooks run in ipykernel; pip install -e '.[dev]'")
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))
    found = notebook()
    nbclient.NotebookClient(found, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (table,) = outputs(found, "text/markdown")
    for row in (
        "published: q-bit search",
        "as published: q-bit search",
        "corrected: qiea, masks",
        "coldpress, macs=60%",
    ):
        assert row in table
    assert len(outputs(found, "image/png")) == 1
    (drawing,) = outputs(found, "image/svg+xml")
    assert "corrected: coldpress, macs=60%" in drawing
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "cache"])  # nothing is left where it ran
