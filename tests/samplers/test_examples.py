"""The examples in the docstrings do what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["bifurcation", "block_decomposer", "exhaustive", "low_rank", "one_flip_tabu", "qaoa"])
def test_examples_give_what_they_show(name):
    failed, tried = doctest.testmod(importlib.import_module(f"coldpress.samplers.{name}"))
    assert tried > 0
    assert failed == 0
