"""Precision, recall, F1 and ROC against their definitions, counted one sample at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from coldpress import scores
from coldpress.evaluate import Evaluation


def evaluation(samples: int, classes: int, seed: int = 0) -> Evaluation:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, samples)
    logits = draw.normal(size=(samples, classes)).round(1)
    logits[np.arange(samples), labels] += 1.0
    return Evaluation(torch.from_numpy(logits).float(), labels.astype(np.int64), 0.0)


def test_scores_of_every_class_are_counted_right() -> None:
    found = evaluation(300, 4)
    for c, score in enumerate(scores.class_scores(found.confusion())):
        hits = int(((found.predictions == c) & (found.labels == c)).sum())
        precision = hits / int((found.predictions == c).sum())
        recall = hits / int((found.labels == c).sum())
        assert score["precision"] == pytest.approx(precision)
        assert score["recall"] == pytest.approx(recall)
        assert score["f1"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert scores.summary(found)["recall"] == pytest.approx(
        np.mean([(found.predictions == found.labels)[found.labels == c].mean() for c in range(4)])
    )
    assert "roc_auc" not in scores.summary(found)


def test_a_class_that_is_never_predicted_scores_zero() -> None:
    assert scores.class_scores([[5, 0], [3, 0]])[1] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 3.0}


def test_the_area_is_the_chance_that_a_positive_scores_above_a_negative() -> None:
    found = evaluation(200, 2)
    margin = (found.logits[:, 1] - found.logits[:, 0]).double().numpy()
    positive, negative = margin[found.labels == 1], margin[found.labels == 0]
    wins = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    assert scores.summary(found)["roc_auc"] == pytest.approx(wins)
    curve = scores.roc(found)
    assert curve[0] == (0.0, 0.0)
    assert curve[-1] == (1.0, 1.0)
    assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in itertools.pairwise(curve))
    assert len(scores.details(evaluation(2000, 2))["roc"]) <= scores.MOST_POINTS


def test_labels_of_one_class_have_no_curve() -> None:
    one = Evaluation(torch.randn(4, 2), np.zeros(4, dtype=np.int64), 0.0)
    with pytest.raises(ValueError, match="samples of both"):
        scores.roc(one)
    assert "roc_auc" not in scores.summary(one)
