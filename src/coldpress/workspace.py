"""Where a run keeps its steps until the artifact is whole: a stopped run goes on from the last one."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from coldpress.errors import ArtifactError
from coldpress.files import write_tensors, write_text

logger = logging.getLogger("coldpress.workspace")


MEASURED = ("int8", "prices", "orders", "energy", "correlation")
"""Steps that do not depend on what a run is asked to reach."""


class Workspace:
    """A folder beside the output, named after it, that holds the results of finished steps.

    Args:
        out: the artifact's folder to be.
        key: names what the steps depend on; steps of another key are thrown away.
        measurements: a folder for the steps in `MEASURED`, which other runs may have left there, and this one leaves to
            others; None keeps them with the rest.

    Raises:
        ArtifactError: if the folder cannot be written, or holds something else than a run.
    """

    def __init__(self, out: Path, key: str, measurements: Path | None = None) -> None:
        self.folder = out.with_name(out.name + ".partial")
        with explained(self.folder):
            known = self._key()
            if known == "" and any(not path.name.startswith(".") for path in self.folder.iterdir()):
                raise ArtifactError(f"{self.folder} holds no coldpress run: move it away, or choose another --out")
            if known is not None and known != key:
                logger.warning("%s belongs to another run (other settings, model or data): starting anew", self.folder)
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            if known != key:
                self.write("key.json", json.dumps({"key": key}))
        self.measurements = measurements
        if measurements is not None:
            with explained(measurements, "--measurements"):
                measurements.mkdir(parents=True, exist_ok=True)
        self.resumed = known == key
        self._made: set[str] = set()

    def reach(self, limits: Mapping[str, float]) -> None:
        """Go on for these limits: what was decided for others is thrown away, what was measured stays."""
        path = self.folder / "limits.json"
        text = json.dumps(dict(limits), sort_keys=True)
        if path.is_file() and path.read_text() != text:
            logger.warning("%s was planned for other limits: planning anew, with what was measured", self.folder)
            for other in self.folder.iterdir():
                if other.name.partition(".")[0] not in ("", "key", "limits", "log", *MEASURED):
                    shutil.rmtree(other) if other.is_dir() else other.unlink()
        self.write(path.name, text)

    def _key(self) -> str | None:
        try:
            found = json.loads((self.folder / "key.json").read_text())["key"]
        except (OSError, ValueError, KeyError, TypeError):
            return "" if self.folder.exists() else None
        return str(found)

    def path(self, name: str) -> Path:
        """A file or folder of this run."""
        return self.folder / name

    def write(self, name: str, text: str) -> Path:
        """Write a text file beside, then rename it."""
        path = self.folder / name
        with explained(path):
            return write_text(path, text)

    def json(self, name: str, compute: Callable[[], Any]) -> Any:
        """The step's result as it was kept, or computed now and kept (JSON-ready data)."""
        path = self._place(name) / f"{name}.json"
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            with self.step(name):
                found = json.loads(json.dumps(compute()))
            with explained(path, self._flag(path)):
                write_text(path, json.dumps(found))
            self._made.add(name)
            return found
        if name not in self._made:
            logger.info("%s: taken from %s", name, path)
        return found

    def _place(self, name: str) -> Path:
        return self.measurements if self.measurements is not None and name in MEASURED else self.folder

    def _flag(self, path: Path) -> str:
        return "--measurements" if path.parent == self.measurements else "--out"

    def tensors(self, name: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The step's tensors as they were kept, or computed now and kept."""
        path = self._place(name) / f"{name}.safetensors"
        try:
            return load_file(path)
        except (OSError, SafetensorError):
            pass
        with self.step(name):
            found = dict(compute())
        with explained(path, self._flag(path)):
            write_tensors(path, found)
        return found

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Log how long a step takes, also when it is stopped."""
        start = time.perf_counter()
        done = False
        try:
            yield
            done = True
        finally:
            self.log(step=name, seconds=round(time.perf_counter() - start, 3), done=done)

    def seconds(self) -> dict[str, float]:
        """Seconds that each finished step took, over all the times that the run was taken up."""
        try:
            lines = (self.folder / "log.jsonl").read_text().splitlines()
        except OSError:
            return {}
        found: dict[str, float] = {}
        for text in lines:
            with suppress(ValueError):  # a killed run may have left half a line
                line = json.loads(text)
                if "step" in line:
                    found[line["step"]] = round(found.get(line["step"], 0.0) + line["seconds"], 3)
        return found

    def log(self, **values: Any) -> None:
        """Append a line to log.jsonl."""
        line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S"), **values}, default=str)
        with explained(self.folder), (self.folder / "log.jsonl").open("a") as file:
            file.write(line + "\n")

    def close(self) -> None:
        """Throw the steps away."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def explained(path: Path, flag: str = "--out") -> Iterator[None]:
    """Turns a disk's refusal into an ArtifactError that says what to do."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another {flag}, and run the "
            f"same command again: finished steps are kept"
        ) from error
