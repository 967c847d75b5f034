"""A run that is killed again and again while it writes loses nothing: kill -9 leaves no time to tidy up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from coldpress.artifact import FILES, load, read_plan

RUN = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from coldpress.budget import Budget
from coldpress.pipeline import compress
from test_pipeline import FAST, task_of

out, mortal = Path(sys.argv[1]), sys.argv[2] == "mortal"
rename, written, kills = Path.replace, 0, 0

def killed(self, target):
    global written
    written += 1
    if written > 1 + kills:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)

def run():
    compress(task_of(), Budget(macs="50%", size="90%"), out=out, **(FAST | {"epochs": 2, "refit_plans": 0}))

if not mortal:
    run()
    sys.exit()
while True:  # forked before any work: a child starts as a new process would, without the time that imports take
    child = os.fork()
    if child == 0:
        Path.replace = killed
        run()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status == 0:
        break
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status
    assert not out.exists(), "killed, yet the artifact's folder is there"
    kills += 1
    assert kills < 100
print(kills)
"""


def run(out: Path, kind: str) -> int:
    """Compress into ``out``; a "mortal" run is killed as its second file is to take its place, the next one as its
    third is, and so on until one ends. How often it was killed.
    """
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"COLDPRESS_CACHE": str(out.parent / "cache"), "PYTHONPATH": paths}
    command = [sys.executable, "-c", RUN, str(out), kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout or 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork to start processes quickly")
def test_a_run_killed_in_every_stage_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    assert run(tmp_path / "whole", "whole") == 0
    assert run(tmp_path / "killed", "mortal") >= 6
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert read_plan(killed) == read_plan(whole)
    a, b = load(whole).state_dict(), load(killed).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert sorted(p.name for p in killed.iterdir()) == sorted(p.name for p in whole.iterdir())
    assert set(FILES) <= {p.name for p in killed.iterdir()}
    assert not list(tmp_path.glob("**/*.part"))
    assert not list(tmp_path.glob("*.partial"))
