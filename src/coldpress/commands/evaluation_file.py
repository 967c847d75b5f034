"""What `coldpress evaluate --out` writes: scores and mistakes by class, and each sample's prediction."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coldpress import scores
from coldpress.artifact import check_parent
from coldpress.commands.subject import check_new
from coldpress.errors import TaskError
from coldpress.evaluate import Evaluation
from coldpress.files import write_text
from coldpress.workspace import explained

SUFFIXES = (".csv", ".json")


def check_place(path: Path, overwrite: bool) -> None:
    """Raise TaskError or ArtifactError when no file can be written there."""
    if path.suffix not in SUFFIXES:
        raise TaskError(
            f"--out {path} ends in {path.suffix!r}; give a .csv file (by class) or a .json file (all of it)"
        )
    check_new(path, overwrite)
    check_parent(path)


def check_classes(path: Path, outputs: int, per_token: bool) -> None:
    """Raise TaskError where a .csv file would have a row for each token, or for too many classes."""
    if path.suffix == ".csv" and (per_token or outputs > scores.MOST_CLASSES):
        raise TaskError(f"--out {path} would have a row for each of {outputs} classes; give a .json file")


def write(
    path: Path, facts: Mapping[str, Any], sides: Mapping[str, Evaluation], names: Sequence[str], per_token: bool
) -> None:
    """Write a .csv with a row a class (scores, then its row of the confusion matrix), or a .json with everything.

    Args:
        path: the file.
        facts: what the command prints as JSON.
        sides: "subject", and "against" where two were compared. A .csv file holds the first.
        names: of the classes; numbers where there are none.
        per_token: whether the classes are tokens, which are not told one by one.
    """
    classes = _classes(sides, names)
    few = not per_token and len(classes) <= scores.MOST_CLASSES
    if path.suffix == ".csv":
        text = _csv(sides["subject"], classes)
    else:
        told = {side: _side(found, len(classes), few) for side, found in sides.items()}
        labels = next(iter(sides.values())).labels.tolist()
        text = json.dumps({**facts, "classes": classes if few else [], "labels": labels, "sides": told})
    with explained(path):
        write_text(path, text)


def _classes(sides: Mapping[str, Evaluation], names: Sequence[str]) -> list[str]:
    most = max(int(max(found.labels.max(), found.predictions.max())) for found in sides.values())
    return [*names, *(str(number) for number in range(len(names), most + 1))]


def _side(found: Evaluation, classes: int, few: bool) -> dict[str, Any]:
    by_class = {"confusion": found.confusion(classes).tolist(), "scores": scores.details(found)} if few else {}
    return {**by_class, "predictions": found.predictions.tolist()}


def _csv(found: Evaluation, classes: Sequence[str]) -> str:
    confusion = found.confusion(len(classes))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["class", *(name for name in scores.class_scores(confusion)[0]), *(f"as {name}" for name in classes)])
    for name, score, counts in zip(classes, scores.class_scores(confusion), confusion.tolist()):
        rows.writerow([name, *score.values(), *counts])
    return text.getvalue()
