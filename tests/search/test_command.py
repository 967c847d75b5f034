"""`coldpress search` from end to end on a tiny network: what wins, what is carried out, and who is waited for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from studies import loss, start

from coldpress.commands.search import helpers
from coldpress.plan import Plan
from command_line import coldpress, words

NET = """
import torch
from torch import nn

def net(num_classes=10):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
    )
"""


@pytest.fixture
def given(tmp_path: Path) -> list[object]:
    """A search over a small network in which the network as it is is within the limits."""
    (tmp_path / "small.py").write_text(NET)
    (tmp_path / "keep.json").write_text(Plan({}, {}, {}).to_json())
    given = ["--model", f"{tmp_path / 'small.py'}:net", "--data", "fashion-mini", "--units", "width", "--epochs", 0]
    given += ["--budget", "macs=100%", "--objectives", "kl", "--images", 16, "--refit-images", 32, "--rungs", 1]
    return ["search", *given, "--storage", tmp_path / "j.log", "--plan", tmp_path / "keep.json"]


def test_where_the_network_as_it_is_wins_this_is_told_and_the_next_plans_are_carried_out(
    given: list[object], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    found = coldpress(*given, "--n-trials", 2, "--out", run, "--best", 3)
    assert found.exit_code == 0, found.output
    assert "Of --best 3 there are 2" in words(found)
    assert "Place 1 goes to the network as it is: there is nothing to carry out" in words(found)
    assert not run.exists()
    assert Plan.from_json((tmp_path / "run-2" / "plan.json").read_text()).choices
    refused = coldpress(*given, "--n-trials", 2, "--out", run, "--best", 2)
    assert refused.exit_code == 2
    assert "run-2 exists; choose another --out" in words(refused)
    assert "--best 0; they must be 1 or more" in words(coldpress(*given, "--best", 0))


def test_a_sampler_that_is_not_there_leaves_the_name_of_the_study_free(given: list[object], tmp_path: Path) -> None:
    assert "no sampler is called 'tbe'" in words(coldpress(*given, "--sampler", "tbe"))
    assert not (tmp_path / "j.log").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="the worker is stood in for by a script of the shell")
def test_helpers_get_the_timeout_and_are_waited_for_while_trials_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = tmp_path / "worker"
    shell.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/begun\ntouch {tmp_path}/over\n')
    shell.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(shell))
    search, place = start(tmp_path / "j.log", 1), str(tmp_path / "j.log")
    with helpers(search, 1, place, search.recipe, 7.5):
        pass
    assert "--study-name one --timeout 7.5" in (tmp_path / "begun").read_text()
    assert (tmp_path / "over").exists()
    search.run(loss)  # nothing is left: a worker that is still being loaded is not waited for
    shell.write_text("#!/bin/sh\nexec sleep 3600\n")
    with helpers(search, 1, place, search.recipe, None):
        pass
