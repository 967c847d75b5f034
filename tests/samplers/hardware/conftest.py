"""Nothing here reaches a network or anybody's own configuration."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # models.py

TOKEN = "TOKEN-that-nobody-may-see"


@pytest.fixture
def no_configuration(tmp_path, monkeypatch):
    """An empty configuration of the vendor's client."""
    file = tmp_path / "dwave.conf"
    file.write_text("")
    monkeypatch.setenv("DWAVE_CONFIG_FILE", str(file))
    for name in ("DWAVE_API_TOKEN", "DWAVE_API_ENDPOINT", "DWAVE_API_SOLVER", "DWAVE_PROFILE", "DWAVE_API_CLIENT"):
        monkeypatch.delenv(name, raising=False)
    return file


@pytest.fixture
def token(no_configuration, monkeypatch):
    """A configuration with a token."""
    monkeypatch.setenv("DWAVE_API_TOKEN", TOKEN)
    return TOKEN
