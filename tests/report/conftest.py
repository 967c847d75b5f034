"""What the tests of the report share."""

from pathlib import Path

import pytest
from invented_run import details, metrics, write_artifact


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """The folder of a run that recorded everything."""
    return write_artifact(tmp_path / "run", metrics(), details())
