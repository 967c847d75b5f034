"""``python -m coldpress`` is the command ``coldpress``."""

from coldpress.cli import app

app(prog_name="coldpress")
