"""Figures and the axes under them, for any numbers that a run may give."""

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldpress.report import figures
from coldpress.report.axes import fit_axis, tick_label

reals = st.floats(-1e9, 1e9).map(lambda v: round(v, 6))
positives = st.floats(1e-6, 1e9)


def test_ticks_below_a_thousandth_are_all_written_alike() -> None:
    assert [tick_label(10.0**-n) for n in range(6)] == ["1", "0.1", "0.01", "0.001", "1e−4", "1e−5"]
    assert tick_label(2.5e-4) == "2.5e−4"


@given(st.lists(reals, min_size=1, max_size=20), st.booleans())
def test_linear_axis_holds_all_values_in_order(values: list[float], zero: bool) -> None:
    axis = fit_axis(values, 40, 400, zero=zero)
    places = [axis(v) for v in sorted(values)]
    assert places == sorted(places)
    assert min(places) >= 40 - 1e-6
    assert max(places) <= 400 + 1e-6


@given(st.lists(positives, min_size=1, max_size=20), st.booleans())
def test_ticks_are_few_distinct_and_on_the_axis(values: list[float], log: bool) -> None:
    axis = fit_axis(values, 40, 400, log=log)
    ticks = axis.ticks()
    assert len(ticks) <= 10
    assert ticks == sorted(set(ticks))
    assert all(39.9 <= axis(t) <= 400.1 for t in ticks)


@given(st.lists(st.tuples(positives, positives), min_size=2, max_size=12))
def test_correlation_draws_each_plan_once(pairs: list[tuple[float, float]]) -> None:
    predicted, measured = zip(*pairs)
    ranks = {"spearman": 0.5, "spearman_separable": 0.25}
    (figure,) = figures.correlation({"predicted": predicted, "measured": measured, **ranks})
    root = ElementTree.fromstring(figure.drawing)
    assert sum(mark.tag == "circle" for mark in root.iter()) == len(pairs)
    assert "0.500" in figure.note
    assert "0.250 without terms between units" in figure.note


@pytest.mark.parametrize("count", [1, 2, 30])
def test_latency_counts_every_run(count: int) -> None:
    samples = {"original": [2.0] * count, "compressed": [1.0 + 0.01 * i for i in range(count)]}
    first, second = figures.latency(samples)
    assert f"{2 * count} runs" in first.note
    assert f"{2 * count} runs" in second.note
    assert "median 2.00 ms" in first.drawing


def test_sweep_is_drawn_against_the_cost_that_was_swept() -> None:
    points = [{"budget": f"size={s}MB", "bytes": s * 1e6, "predicted_kl": 1 / s, "accuracy": None} for s in (1, 2, 4)]
    (figure,) = figures.pareto(points)
    assert "size, MB" in figure.drawing
    assert figures.pareto(points[:1]) == []


def test_chosen_plan_is_marked_where_it_was_measured() -> None:
    points = [{"latency_ms": t, "predicted_kl": 1 / t, "accuracy": 0.9, "chosen": t == 2} for t in (1, 2, 3)]
    assert [figure.key for figure in figures.pareto(points)] == [(("dot after", "this run's plan"),)] * 2
    points[1]["accuracy"] = None
    assert figures.pareto(points)[1].key == ()


def test_trace_without_a_bound_or_a_plan() -> None:
    (figure,) = figures.trace([[0.1, 3.0, None], [0.4, 2.0, None]])
    assert len(figure.key) == 1
    assert figures.trace([[0.1, math.inf, 0.5]]) == []


def test_confusion_shares_add_up_to_whole_rows() -> None:
    first, second = figures.confusion(
        {"classes": ["a", "b"], "original": [[3, 1], [0, 4]], "compressed": [[4, 0], [0, 0]]}
    )
    assert "a as b: 1 (25.0 %)" in first.drawing
    assert second.drawing.count("<rect") == 1
