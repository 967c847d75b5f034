"""The command line in this process, and what it prints without the terminal's frames."""

from __future__ import annotations

import re

from typer.testing import CliRunner, Result

from coldpress.cli import app


def coldpress(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def words(result: Result) -> str:
    """The output without the frames and line breaks of the terminal."""
    return re.sub(r"[\s│]+", " ", result.output)
