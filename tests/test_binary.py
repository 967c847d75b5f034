"""Models from arrays are what they say; a sampler's answer is checked before it is believed."""

from __future__ import annotations

import itertools

import dimod
import numpy as np
import pytest

from coldpress import binary
from coldpress.errors import SamplerError


def test_a_matrix_is_its_quadratic_form() -> None:
    matrix = np.random.default_rng(0).normal(size=(4, 4))
    model = binary.from_matrix("abcd", matrix, 0.5)
    assert list(model.variables) == list("abcd")
    for x in itertools.product((0, 1), repeat=4):
        assert model.energy(dict(zip("abcd", x))) == pytest.approx(0.5 + np.array(x) @ matrix @ np.array(x))


def test_biases_that_are_not_finite_are_refused() -> None:
    with pytest.raises(SamplerError, match="NaN or infinite"):
        binary.from_matrix("ab", np.array([[0.0, np.inf], [0.0, 1.0]]))


def test_models_that_grow_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "MOST_COUPLINGS", 2)
    with pytest.raises(SamplerError, match="3 couplings, and at most 2 are built"):
        binary.from_matrix("abc", np.ones((3, 3)))


MODEL = dimod.BinaryQuadraticModel({"a": 1.0, "b": -1.0}, {("a", "b"): 2.0}, 0.0, "BINARY")


@pytest.mark.parametrize(
    ("samples", "energy", "words"),
    [
        ([{"a": 0, "c": 1}], [-1.0], "other variables"),
        ([{"a": 0}], [0.0], "other variables"),
        ([{"a": 0, "b": 2}], [-2.0], "values other than"),
        ([{"a": 0, "b": 1}], [-3.0], "energy is -3 where the model's is -1"),
        ([{"a": 0, "b": 1}], [np.nan], "energy is nan"),
    ],
)
def test_wrong_answers_are_refused(samples: list[dict[str, int]], energy: list[float], words: str) -> None:
    with pytest.raises(SamplerError, match=words):
        binary.checked(dimod.SampleSet.from_samples(samples, "BINARY", energy), MODEL)


def test_no_answer_is_refused() -> None:
    with pytest.raises(SamplerError, match="no sample"):
        binary.checked(dimod.SampleSet.from_samples([], "BINARY", []), MODEL)
    with pytest.raises(SamplerError, match="list"):
        binary.checked([{"a": 0, "b": 1}], MODEL)


def test_answers_in_spins_are_read_as_bits() -> None:
    spins = dimod.SampleSet.from_samples({"a": -1, "b": 1}, "SPIN", [-1.0])
    assert dict(binary.checked(spins, MODEL).first.sample) == {"a": 0, "b": 1}


def test_answers_come_lowest_first() -> None:
    found = binary.checked(dimod.SampleSet.from_samples_bqm([{"a": 1, "b": 1}, {"a": 0, "b": 1}], MODEL), MODEL)
    assert list(found.record.energy) == [-1.0, 2.0]
    assert dict(next(iter(found.samples(sorted_by=None)))) == {"a": 0, "b": 1}
