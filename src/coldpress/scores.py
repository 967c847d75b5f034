"""Precision, recall, F1 and the ROC curve of predictions."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import numpy.typing as npt

from coldpress.evaluate import Evaluation

MOST_POINTS = 200
MOST_CLASSES = 1000


def class_scores(confusion: npt.ArrayLike) -> list[dict[str, float]]:
    """Precision, recall, F1 and support of every class; 0 where there is nothing to divide by.

    Args:
        confusion: ``(classes, classes)`` counts, row = label, column = prediction.

    >>> [round(score["f1"], 3) for score in class_scores([[8, 2], [4, 6]])]
    [0.727, 0.667]
    """
    counts = np.asarray(confusion, dtype=np.float64)
    right, labelled, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    precision = right / np.maximum(predicted, 1)
    recall = right / np.maximum(labelled, 1)
    f1 = 2 * right / np.maximum(labelled + predicted, 1)
    columns = zip(precision, recall, f1, labelled)
    return [{"precision": float(p), "recall": float(r), "f1": float(f), "support": float(n)} for p, r, f, n in columns]


def roc(evaluation: Evaluation) -> list[tuple[float, float]]:
    """The ROC curve for two classes, the second one positive: (false, true positive rate), from (0, 0) to (1, 1).

    Scores that are equal make one point. Raises ValueError unless there are two classes and samples of both.
    """
    logits = evaluation.logits
    if logits is None or logits.shape[1] != 2 or not 0 < evaluation.labels.sum() < evaluation.samples:
        raise ValueError("a ROC curve needs two classes and samples of both")
    margin = (logits[:, 1] - logits[:, 0]).double().numpy()
    order = np.argsort(-margin, kind="stable")
    last = np.append(np.diff(margin[order]) != 0, True)
    positive = np.cumsum(evaluation.labels[order] == 1)[last]
    negative = np.cumsum(evaluation.labels[order] == 0)[last]
    points = zip(negative / negative[-1], positive / positive[-1])
    return [(0.0, 0.0), *((float(x), float(y)) for x, y in points)]


def area(curve: list[tuple[float, float]]) -> float:
    """The area under a curve, by trapezes.

    >>> area([(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)])
    0.875
    """
    x, y = np.array(curve).T
    return float(np.trapezoid(y, x))


def summary(evaluation: Evaluation) -> dict[str, float]:
    """Means over classes of precision, recall and F1, and the area under the ROC curve where there are two classes.

    Nothing where the classes are too many to be looked at one by one, as a decoder's tokens are.
    """
    if max(evaluation.labels.max(), evaluation.predictions.max()) >= MOST_CLASSES:
        return {}
    scores = class_scores(evaluation.confusion())
    found = {name: float(np.mean([score[name] for score in scores])) for name in ("precision", "recall", "f1")}
    with contextlib.suppress(ValueError):
        found["roc_auc"] = area(roc(evaluation))
    return found


def details(evaluation: Evaluation) -> dict[str, Any]:
    """Scores by class, and the ROC curve (at most 200 points) where there are two classes."""
    found: dict[str, Any] = {"classes": class_scores(evaluation.confusion())}
    try:
        curve = roc(evaluation)
    except ValueError:
        return found
    chosen = np.unique(np.linspace(0, len(curve) - 1, min(MOST_POINTS, len(curve))).round().astype(int))
    return found | {"roc": [curve[i] for i in chosen]}
