"""Evaluation, intervals and paired tests."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from coldpress.errors import TaskError
from coldpress.evaluate import METRICS, Evaluation, bootstrap_interval, compare, evaluate, predictor, wilson_interval


def judged(right: list[bool]) -> Evaluation:
    """Two classes, all labels 1; the logits are right where asked."""
    logits = torch.tensor([[0.0, 1.0] if hit else [1.0, 0.0] for hit in right])
    return Evaluation(logits, np.ones(len(right), dtype=np.int64), 0.0)


def test_evaluation_does_not_depend_on_the_batch_size() -> None:
    torch.manual_seed(0)
    model, x, y = nn.Linear(4, 3), torch.randn(30, 4), torch.arange(30) % 3
    whole = evaluate(predictor(model), [((x,), y)])
    parts = evaluate(predictor(model), [((a,), b) for a, b in zip(x.split(7), y.split(7))])
    assert np.array_equal(whole.correct, parts.correct)
    assert whole.loss == pytest.approx(parts.loss, rel=1e-5)
    assert whole.accuracy == pytest.approx(METRICS["accuracy"](whole.logits, y))
    assert whole.confusion().sum() == 30
    assert whole.confusion().trace() == whole.correct.sum()


def test_top5_counts_the_five_best() -> None:
    logits = torch.arange(10.0).repeat(10, 1)
    assert METRICS["top5_accuracy"](logits, torch.arange(10)) == 0.5


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (torch.full((2, 3), float("nan")), "NaN or Inf"),
        (torch.zeros(2, 3, 4), "batch, classes"),
        (torch.zeros(1, 3), "batch, classes"),
    ],
)
def test_bad_outputs_are_explained(output: torch.Tensor, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        evaluate(lambda inputs: output, [((torch.zeros(2, 1),), torch.zeros(2).long())])


def test_no_samples_is_an_error() -> None:
    with pytest.raises(TaskError, match="no sample"):
        evaluate(lambda inputs: inputs[0], [])


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_comparison_is_antisymmetric_and_covers_the_difference(pairs: list[tuple[bool, bool]]) -> None:
    first, second = judged([a for a, _ in pairs]), judged([b for _, b in pairs])
    there, back = compare(first, second), compare(second, first)
    assert there.difference == pytest.approx(second.accuracy - first.accuracy)
    assert there.difference == -back.difference
    assert there.p_value == pytest.approx(back.p_value)
    assert there.discordant == back.discordant[::-1]
    low, high = there.difference_interval
    assert -1 <= low <= high <= 1
    assert low - 0.1 <= there.difference <= high + 0.1
    assert 0 < there.p_value <= 1


def test_mcnemar_is_the_exact_binomial() -> None:
    comparison = compare(judged([True] * 8 + [False, True]), judged([False] * 8 + [True, True]))
    assert comparison.discordant == (8, 1)
    assert comparison.p_value == pytest.approx(2 * (1 + 9) / 2**9)


@pytest.mark.parametrize(("lost", "gained", "samples"), [(25, 8, 150), (1, 12, 60), (0, 9, 300)])
def test_the_bootstrap_is_that_of_the_pairs(lost: int, gained: int, samples: int) -> None:
    found = bootstrap_interval(lost, gained, samples)
    pairs = np.repeat([-1.0, 0.0, 1.0], [lost, samples - lost - gained, gained])
    theirs = stats.bootstrap((pairs,), np.mean, method="BCa", rng=np.random.default_rng(1)).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), abs=1.5 / samples)
    assert found[0] < (gained - lost) / samples < found[1]
    assert found == bootstrap_interval(lost, gained, samples)


def test_a_comparison_has_the_bootstrap_interval() -> None:
    first, second = judged([True] * 8 + [False] * 12), judged([False] * 8 + [True] * 3 + [False] * 9)
    assert compare(first, second).bootstrap_interval == bootstrap_interval(8, 3, 20)
    assert compare(first, first).bootstrap_interval == (0.0, 0.0)


def test_other_samples_cannot_be_compared() -> None:
    with pytest.raises(TaskError, match="same labels"):
        compare(judged([True]), judged([True, False]))


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_proportion(samples: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, samples))
    low, high = wilson_interval(successes, samples)
    assert 0 <= low <= successes / samples + 1e-12
    assert successes / samples <= high + 1e-12 <= 1 + 1e-11
