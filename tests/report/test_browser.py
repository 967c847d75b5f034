"""The page in a real browser: drawn, silent, and no wider than a telephone."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from coldpress.report import render

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--enable-logging=stderr",
    "--v=0",
    "--dump-dom",
]
MEASURE = """<script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement;
  const boxes = [...page.querySelectorAll("svg")].map(svg => svg.getBoundingClientRect());
  const box = node => node.getBoundingClientRect();
  const clear = node => box(node).left >= -1 && box(node).right <= root.clientWidth + 1;
  document.querySelector("output").textContent = JSON.stringify({
    width: root.scrollWidth, figures: boxes.map(b => [b.width, b.height]),
    marks: [...page.querySelectorAll("svg")].map(svg => svg.querySelectorAll("path, circle, rect").length),
    outside: [...page.querySelectorAll("svg text")].filter(t => !clear(t)).map(t => t.textContent),
  });
};
</script>"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]


def look(page: str, width: int, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Open a page ``width`` pixels wide; return what was measured in it and what the console said.

    Headless windows have a least width of their own, so the page stands in a frame.
    """
    source = html.escape(page, quote=True)
    frame = f'<iframe style="width:{width}px;height:9000px;border:0" srcdoc="{source}"></iframe>'
    outer = folder / "outer.html"
    outer.write_text(f"<!doctype html><meta charset=utf-8>{frame}<output></output>{MEASURE}", encoding="utf-8")
    command = [
        str(CHROMIUM),
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1400,1000",
        outer.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    measured = re.search(r"<output>(.*?)</output>", done.stdout, flags=re.S)
    assert measured, done.stderr
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(measured[1])), console


@pytest.mark.parametrize("width", [400, 1280])
def test_figures_are_drawn_within_the_page_and_the_console_is_silent(artifact: Path, width: int) -> None:
    seen, console = look(render(artifact).read_text(encoding="utf-8"), width, artifact.parent)
    assert console == []
    assert seen["width"] <= width
    assert len(seen["figures"]) == 11
    assert all(w > 250 and h > 120 for w, h in seen["figures"])
    assert min(seen["marks"]) >= 4
    assert seen["outside"] == []


def test_the_look_would_notice(tmp_path: Path) -> None:
    page = "<div style='width:700px'>wide</div><svg width=0 height=0></svg><script>console.error('broken')</script>"
    seen, console = look(page, 400, tmp_path)
    assert seen["width"] >= 700
    assert seen["figures"] == [[0, 0]]
    assert any("broken" in line for line in console)
