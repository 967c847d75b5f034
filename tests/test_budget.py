"""Budgets are read, resolved and refused."""

import pytest

from coldpress.budget import Budget
from coldpress.errors import BudgetError


@pytest.mark.parametrize(
    ("quantity", "text", "expected"),
    [
        ("latency", "25%", 0.25),
        ("latency", "3ms", 3e-3),
        ("latency", "250us", 250e-6),
        ("latency", 0.5, 0.5),
        ("size", "2MB", 2e6),
        ("size", "500 KB", 500e3),
        ("size", "1.5MiB", 1.5 * 2**20),
        ("macs", "40M", 40e6),
        ("macs", "1e6", 1e6),
    ],
)
def test_a_limit_is_read(quantity, text, expected):
    assert Budget(**{quantity: text}).resolve({quantity: 1.0})[quantity] == pytest.approx(expected)


@pytest.mark.parametrize("text", ["101%", "0", "0%", "-3ms", "fast", "", "3 parsecs", "nan", float("inf"), True, [1]])
def test_a_malformed_limit_is_refused_by_name_and_value(text):
    with pytest.raises(BudgetError, match="latency="):
        Budget(latency=text)


def test_the_command_line_form_equals_the_constructor():
    assert Budget.parse(["latency=25%", "size = 2MB"]) == Budget(latency="25%", size="2MB")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["latency"], "quantity=value"),
        (["latnecy=3ms"], "did you mean 'latency'"),
        (["size=1MB", "size=2MB"], "twice"),
    ],
)
def test_a_malformed_command_line_is_refused(texts, message):
    with pytest.raises(BudgetError, match=message):
        Budget.parse(texts)


def test_a_percentage_needs_the_original():
    with pytest.raises(BudgetError, match="original size"):
        Budget(size="50%").resolve({"macs": 1.0})


def test_it_describes_itself():
    assert Budget(latency="25%", macs=100).describe() == "latency <= 25%, macs <= 100"
    assert Budget().describe() == "no limit"
