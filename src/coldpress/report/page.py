"""Writes the report of an artifact folder: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from coldpress.errors import ArtifactError
from coldpress.files import write_text
from coldpress.report import figures, formats, layers, tables

logger = logging.getLogger("coldpress.report")

Json = Mapping[str, Any]
NAME = "report.html"
REPRODUCIBLE = ("seed", "command", "versions", "device")


def render(folder: str | Path) -> Path:
    """Write ``report.html`` into an artifact folder, from the JSON files that lie there.

    What a file does not hold is left out of the page, with a line that says so.

    Args:
        folder: an artifact folder, with ``metrics.json`` and possibly ``details.json``, ``plan.json``, ``log.jsonl``.

    Returns:
        The path of the page.

    Raises:
        ArtifactError: The folder is missing, holds no artifact, holds a damaged file, or cannot be written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is not a folder; give the --out folder of a coldpress run")
    metrics = _read(folder / "metrics.json")
    if metrics is None:
        raise ArtifactError(f"{folder} has no metrics.json; give the --out folder of a finished coldpress run")
    details, plan = _read(folder / "details.json") or {}, _read(folder / "plan.json") or {}
    try:
        html = (
            environment()
            .get_template("report.html.j2")
            .render(_content(metrics, details, plan, _steps(folder / "log.jsonl")))
        )
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise ArtifactError(
            f"metrics.json or details.json in {folder} is not in the form of an artifact: {error!r}; run compress again"
        ) from error
    page = folder / NAME
    try:
        write_text(page, html)
    except OSError as error:
        raise ArtifactError(f"{page} cannot be written: {error.strerror}; make room or give another folder") from error
    logger.info("wrote %s", page)
    return page


def _read(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None where there is no file."""
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); restore it, or run compress again") from error
    if not isinstance(data, dict):
        raise ArtifactError(f"{path} holds a {type(data).__name__}, not an object; restore it, or run compress again")
    return data


def _steps(path: Path) -> list[tuple[str, float]]:
    """The steps that say how many seconds they took; a log cut short by a crash is read as far as it goes."""
    steps: dict[str, float] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
            name = record.get("step") or record.get("event")
            if name and formats.known(record.get("seconds")):
                steps[str(name)] = steps.get(str(name), 0.0) + float(record["seconds"])
        except (ValueError, TypeError, AttributeError):
            continue
    return list(steps.items())


def environment() -> Environment:
    """The templates, with the filters that they use."""
    found = Environment(
        loader=PackageLoader("coldpress.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(three=formats.three, percent=formats.percent, points=formats.signed, interval=formats.interval)
    return found


def _content(metrics: Json, details: Json, plan: Json, steps: list[tuple[str, float]]) -> dict[str, Any]:
    """Everything that the template shows; an empty part makes the template say that it is absent."""
    shapes = details.get("layers") or []
    confusion = details.get("confusion") or {}
    solver = metrics.get("solver") or {}
    factors_words, factors_pass, factors = tables.factors(metrics)
    return {
        "name": metrics.get("name") or "",
        "headline": headline(metrics),
        "rows": tables.comparison(metrics),
        "conditions": tables.conditions(metrics),
        "paired_test": tables.paired_test(metrics),
        "budget": tables.budget(metrics),
        "comparison": metrics.get("comparison") or {},
        "control": metrics.get("control") or {},
        "prediction": tables.prediction(metrics),
        "pareto": figures.pareto(details.get("pareto") or []),
        "layers": layers.rows(shapes),
        "layer_totals": layers.totals(shapes),
        "layer_summary": layers.summary(shapes),
        "cost_names": [name for _, name, _ in layers.COSTS],
        "factors": factors,
        "factors_words": factors_words,
        "factors_pass": factors_pass,
        "correlation": figures.correlation(details.get("correlation") or {}),
        "interactions": tables.interactions(metrics),
        "latency": figures.latency(details.get("latency_samples") or {}),
        "confusion": figures.confusion(confusion),
        "roc": figures.roc(details.get("scores") or {}),
        "confusion_rows": tables.top_confusions(confusion),
        "class_count": len(confusion.get("classes") or []),
        "refused": tables.refused_groups(details.get("refused") or {}),
        "refused_known": "refused" in details,
        "trace": figures.trace(details.get("trace") or []),
        "solver": _plain(solver),
        "history": figures.history(details.get("history") or [], *_validation(metrics)),
        "steps": steps,
        "choices": (metrics.get("plan") or plan.get("choices") or {}),
        "command": metrics.get("command") or "",
        "seed": metrics.get("seed"),
        "versions": metrics.get("versions") or {},
        "device": _plain(metrics.get("device") or {}),
        "snippet": snippet(metrics, details),
    }


def _validation(metrics: Json) -> tuple[float | None, str]:
    """The original's score on validation data, the only one that a training curve may be held against; its metric."""
    found = metrics.get("validation") or {}
    return found.get("original"), found.get("metric", "accuracy")


def _plain(values: Json) -> dict[str, str]:
    """Single values as words; lists and objects within are left to the JSON files."""
    shown = {}
    for key, value in values.items():
        if isinstance(value, bool):
            shown[key] = "yes" if value else "no"
        elif isinstance(value, float):
            shown[key] = formats.percent(value, 2) if key == "gap" else formats.three(value)
        elif isinstance(value, int | str):
            shown[key] = str(value)
    return {key.replace("_", " "): value for key, value in shown.items()}


def headline(metrics: Json) -> list[tuple[str, str]]:
    """What matters most, as pairs of a figure and its words: speed, size, accuracy."""
    before, after = metrics.get("original") or {}, metrics.get("compressed") or {}
    parts = []
    medians = [(side.get("latency_ms") or {}).get("median") for side in (before, after)]
    sizes = [side.get("file_bytes") for side in (before, after)]
    for (left, right), better, worse in ((medians, "faster", "slower"), (sizes, "smaller", "larger")):
        words = formats.ratio(left, right, better, worse)
        if words != formats.DASH:
            figure, _, word = words.partition(" ")
            parts.append((figure, word) if "×" in figure else ("1×", f"not {better}"))
    change = next((row.change for row in tables.comparison(metrics) if row.label.startswith("Accuracy")), formats.DASH)
    if change != formats.DASH:
        parts.append((change.removesuffix(" points"), "points of accuracy"))
    return parts


def snippet(metrics: Json, details: Json) -> str:
    """A program that runs the deployed model with onnxruntime and numpy alone, when pasted within the folder."""
    inputs = details.get("input") or {}
    latency = (metrics.get("compressed") or {}).get("latency_ms") or {}
    feeds = [
        (name, tuple(1 if size is None else int(size) for size in shape), str(dtype))
        for name, shape, dtype in zip(inputs.get("names") or [], inputs.get("shapes") or [], inputs.get("dtypes") or [])
    ]
    classes = [str(name) for name in (details.get("confusion") or {}).get("classes") or []]
    plain = Environment(
        loader=PackageLoader("coldpress.report"), trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    plain.filters["literal"] = json.dumps  # for strings and lists of them, Python reads it the same
    return plain.get_template("deploy.py.j2").render(
        feeds=feeds, threads=latency.get("threads"), classes=classes if 2 <= len(classes) <= 20 else []
    )
