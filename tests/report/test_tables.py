"""Tables and the numbers in them."""

import doctest
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from invented_run import details, metrics
from rich.console import Console

from coldpress.report import final_table, formats, layers, tables


def test_doctests() -> None:
    assert doctest.testmod(tables).failed == 0


def test_terminal_table_says_what_the_page_says() -> None:
    out = io.StringIO()
    Console(file=out, width=100).print(final_table(metrics()))
    text = out.getvalue()
    for words in (
        "88.66 %",
        "88.24 %",
        "5.18× faster",
        "10.0× smaller",
        "ONNX Runtime 1.31.0, batch 1, 1 thread",
        "p = 0.15",
    ):
        assert words in text


def test_the_paired_test_has_the_bootstrap_beside_it() -> None:
    assert "95 % interval of the change \u22120.96 to +0.14 points." in tables.paired_test(metrics())
    older = metrics()
    del older["comparison"]["bootstrap_interval"]  # as runs before it wrote
    assert "Paired bootstrap" not in tables.paired_test(older)


def test_a_modelled_latency_says_how_far_such_a_model_is_off_here() -> None:
    modelled = {"title": "a Pi", "source": "its maker", "original_ms": 9.0, "compressed_ms": 3.0}
    error = {"count": 12, "median": 1.25, "spread": 1.4, "correlation": 0.9}
    layers = "of 12 layers measured on this machine such a model gives 1.25 times"
    for known, words in (
        ({"layers": error, "networks": None}, layers),
        ({"layers": None, "networks": error}, layers.replace("layers", "whole networks")),
        ({**error, "layers": 12}, layers),  # as runs before wrote
        ({"layers": None, "networks": None}, "not known"),
        (None, "not known"),
    ):
        (row,) = tables.comparison({"modelled": {**modelled, "host_error": known}})
        assert words in row.note


def test_the_worth_of_terms_between_units_is_told_where_both_plans_were_measured() -> None:
    told = tables.interactions({"predicted": {"measured_kl_by_alpha": {"0.1": 0.02, "0": 0.05, "0.05": 0.03}}})
    assert "without terms between units measures 0.0500 nats, 0.0300 with 5% of them, 0.0200 with 10% of them." in told
    assert tables.interactions({"predicted": {"measured_kl_by_alpha": {"0": 0.05}}}) == ""
    assert tables.interactions({}) == ""


def test_every_limit_is_held_against_what_was_measured() -> None:
    (latency, kept), (size, broken) = tables.budget(metrics())
    assert kept
    assert latency == "Latency 1.10 ms, 22.9 % of the original's; asked for at most 25%: kept"
    assert not broken
    assert size.endswith("asked for at most 1MB: NOT kept")
    assert tables.budget({}) == []


def test_rows_without_numbers_are_left_out() -> None:
    data = metrics()
    for side in ("original", "compressed"):
        del data[side]["latency_ms"], data[side]["macs"]
    labels = [row.label for row in tables.comparison(data)]
    assert "MACs" not in labels
    assert not [label for label in labels if label.startswith("Latency")]


def test_only_what_got_worse_is_marked_as_worse() -> None:
    worse = {row.label.split(" (")[0] for row in tables.comparison(metrics()) if row.worse}
    assert "Accuracy" in worse
    assert not worse & {"ONNX file", "Latency, median", "MACs", "Parameters"}


@pytest.mark.parametrize(
    ("p", "words"), [(0.2, "no difference is shown"), (1e-9, "p < 0.001, at the 5 % level a difference")]
)
def test_paired_test_in_words(p: float, words: str) -> None:
    data = metrics()
    data["comparison"]["p_value"] = p
    assert words in tables.paired_test(data)


def test_prediction_error_is_relative_to_the_measurement() -> None:
    rows = {row.label: row.change for row in tables.prediction(metrics())}
    assert rows["Latency"] == "−2.6 %"
    assert rows["MACs"] == "0.0 %"


def test_layer_totals_are_the_sums() -> None:
    shapes = details()["layers"]
    macs = [sum((layer[side] or {"macs": 0})["macs"] for layer in shapes) for side in ("before", "after")]
    assert layers.totals(shapes)[0] == f"{formats.scaled(macs[0])} → {formats.scaled(macs[1])}"


def test_bars_stay_within_their_cell_and_dropped_layers_are_empty() -> None:
    for row in layers.rows(details()["layers"]):
        bars = (row.outputs, *row.costs)
        assert all(0 <= bar.after <= bar.before <= 100 for bar in bars)
        assert not row.dropped or all(bar.after == 0 for bar in bars)


def test_summary_counts_what_was_done() -> None:
    before = {"out": 64, "method": "dense", "rank": [], "bits": 32}
    shapes = [
        {"before": before, "after": {**before, "out": 48}},
        {"before": before, "after": {**before, "method": "svd", "rank": [16], "bits": 8}},
        {"before": before, "after": None},
    ]
    assert layers.summary(shapes) == "Of 3 layers: 1 narrower, 1 factorised, 1 in int8, 1 dropped."
    assert "none was changed" in layers.summary([{"before": before, "after": before}])


def test_top_confusions_are_those_that_changed_most() -> None:
    data = details()["confusion"]
    change = np.asarray(data["compressed"]) - np.asarray(data["original"])
    np.fill_diagonal(change, 0)
    first = tables.top_confusions(data)[0]
    assert abs(int(first.change.replace("−", "-"))) == np.abs(change).max()


def test_refused_options_are_grouped_by_reason() -> None:
    groups = tables.refused_groups({"a": "slow", "b": "large", "c": "slow"})
    assert groups == [("slow", ["a", "c"]), ("large", ["b"])]


@given(st.floats(1e-4, 9e6) | st.floats(-9e6, -1e-4))
def test_three_digits_stay_close(value: float) -> None:
    shown = float(formats.three(value).replace(",", "").replace("−", "-"))
    assert math.isclose(shown, value, rel_tol=0.0051)


@given(st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_a_ratio_never_calls_the_worse_better(before: float, after: float) -> None:
    words = formats.ratio(before, after, "faster", "slower")
    assert ("faster" in words) <= (after < before)
    assert ("slower" in words) <= (after > before)


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_number_is_a_dash(value: float | None) -> None:
    shows = (
        formats.three,
        formats.count,
        formats.scaled,
        formats.milliseconds,
        formats.percent,
        formats.signed,
        formats.p_value,
    )
    assert [show(value) for show in shows] == [formats.DASH] * len(shows)


def test_signed_zero_has_no_sign() -> None:
    assert formats.signed(0.0) == formats.signed(-0.0) == formats.signed(-1e-9) == "0.00"
