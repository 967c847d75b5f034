"""What is told while something runs, where no terminal can draw it."""

import pytest

from coldpress.commands.terminal import progress_bars


def test_a_log_gets_a_line_as_a_step_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bars() as tell:
        for step, total in (("energy", 3), ("re-fit", 2), ("energy", 3)):
            for done in range(total):
                tell(step, done + 1, total)
    lines = [line.split("s", 1)[1].split() for line in capsys.readouterr().err.splitlines()]
    assert lines == [["energy", "(3)"], ["re-fit", "(2)"], ["energy", "(3)"]]
