"""Rows of a table that rare tokens give up: which go, and a whole run under a limit of bytes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import coldpress as cp
from coldpress.runtime import run, session
from coldpress.vocabulary import rarest_first

ROWS, FEATURES, CLASSES = 2000, 48, 4


class Words(nn.Module):
    """Classifies by the mean of embeddings."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(ROWS, FEATURES), nn.Linear(FEATURES, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.table(ids).mean(1))


def texts(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Tokens of which small numbers are common, labelled by the network."""
    drawn = torch.rand(count, 6, generator=torch.Generator().manual_seed(seed))
    ids = (drawn**4 * ROWS).long()
    return ids, Words()(ids).argmax(1)


def test_the_rarest_tokens_go_first() -> None:
    ids, labels = texts(64, 0)
    task = cp.Task(Words(), train=[(ids, labels)], hold_out=False)
    task.tokenizer = SimpleNamespace(all_special_ids=[1900])
    order = rarest_first(task, "table")
    counts = torch.bincount(ids.flatten(), minlength=ROWS)
    assert sorted(order) == list(range(ROWS))
    assert order[-1] == 1900
    assert order[0] == max(number for number in range(ROWS) if not counts[number] and number != 1900)
    seen = counts[torch.tensor(order[:-1])]
    assert bool((seen[1:] >= seen[:-1]).all())


def test_a_limit_of_bytes_is_met_by_fewer_rows_and_the_artifact_reloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLDPRESS_CACHE", str(tmp_path / "cache"))
    data = {"train": [texts(400, 1)], "validation": [texts(100, 3)], "test": [texts(200, 2)]}
    task = cp.Task(Words(), **data)
    settings = {"units": ("vocabulary",), "calibration": 64, "refit_images": 64, "refit_plans": 0, "time_limit": 1.0}
    result = cp.compress(task, cp.Budget(size="60%"), epochs=0, random_plans=4, out=tmp_path / "run", **settings)
    label = result.plan.choices["table:vocabulary"]
    kept = torch.tensor(result.plan.kept["table:vocabulary"])
    assert len(kept) == int(label.split("/")[0]) < ROWS
    assert result.metrics["compressed"]["file_bytes"] <= 0.6 * result.metrics["original"]["file_bytes"]
    assert result.metrics["predicted"]["size"] == pytest.approx(result.metrics["compressed"]["file_bytes"], rel=0.02)
    again = cp.load(tmp_path / "run", Words)
    ids = torch.arange(ROWS)[:, None].repeat(1, 6)
    (found,) = run(session(tmp_path / "run" / "model.onnx"), [ids.numpy()])
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), again(ids), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(again(ids[kept]), task.model(ids[kept]), rtol=1e-4, atol=1e-4)
    assert result.metrics["compressed"]["accuracy"] > 0.8
