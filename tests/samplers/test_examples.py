"""The examples in the docstrings do what they say."""

import doctest
import importlib

import pytest

NAMES = ("bifurcation", "block_decomposer", "exhaustive", "hardware.estimate", "low_rank", "one_flip_tabu", "qaoa")


@pytest.mark.parametrize("name", NAMES)
def test_examples_give_what_they_show(name):
    failed, tried = doctest.testmod(importlib.import_module(f"coldpress.samplers.{name}"))
    assert tried > 0
    assert failed == 0
