"""Answers of samplers are computed again: what is not of the model is refused."""

import dimod
import numpy as np
import pytest
from models import random_model

from coldpress.errors import SamplerError
from coldpress.samplers.asking import ask

MODEL = random_model(5, 0)


class Says(dimod.Sampler):
    """Returns what it was told to."""

    parameters, properties = {}, {}

    def __init__(self, answer):
        self.answer = answer

    def sample(self, bqm, **parameters):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def right(**changes):
    samples = dimod.ExactSolver().sample(MODEL).truncate(4)
    variables = list(samples.variables)
    values = {"samples_like": (samples.record.sample, variables), "vartype": "BINARY", "energy": samples.record.energy}
    return dimod.SampleSet.from_samples(**(values | changes))


def test_a_right_answer_is_taken_in_either_vartype():
    for vartype in ("BINARY", "SPIN"):
        answer = dimod.ExactSolver().sample(MODEL).change_vartype(vartype, inplace=False)
        found = ask(Says(answer), MODEL)
        assert found.vartype is dimod.BINARY
        np.testing.assert_allclose(found.record.energy, MODEL.energies(found))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (right(energy=[-9.0, 0.0, 0.0, 0.0]), "read 0 has energy -9.*refused"),
        (right(energy=[float("nan")] * 4), "energy nan"),
        (right(samples_like=(np.zeros((4, 5)), list("pqrst"))), "other variables.*missing.*unknown"),
        (right(samples_like=(np.zeros((4, 4)), list(MODEL.variables)[:4])), "missing: \\['"),
        (right(samples_like=(np.full((4, 5), 2), list(MODEL.variables)), vartype="INTEGER"), "values other than"),
        (dimod.SampleSet.from_samples(np.zeros((0, 5)), "BINARY", energy=[]).relabel_variables(
            dict(enumerate(MODEL.variables)), inplace=False), "no read"),
        ([1, 2, 3], "returned a list"),
        (ValueError("the first\nand more"), "failed: the first \\(ValueError\\)"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_refused(answer, words):
    with pytest.raises(SamplerError, match=words):
        ask(Says(answer), MODEL, name="it")


def test_what_a_sampler_does_not_know_is_named():
    with pytest.raises(SamplerError, match="Says has no parameter sweeps"):
        ask(Says(right()), MODEL, parameters={"sweeps": 3})
    with pytest.raises(SamplerError, match="object is no sampler"):
        ask(object(), MODEL)


def test_a_limit_without_end_is_none_that_tabu_search_cannot_take(monkeypatch):
    from dwave.samplers import TabuSampler

    given = []

    def recorded(self, bqm, **parameters):
        given.append(parameters["timeout"])
        return dimod.ExactSolver().sample(bqm)

    monkeypatch.setattr(TabuSampler, "sample", recorded)
    for limit in (float("inf"), 1e12, 2.0):
        ask(TabuSampler(), MODEL, time_limit=limit)
    assert given == [2**31 - 1, 2**31 - 1, 2000]
    with pytest.raises(SamplerError, match="time_limit is nan"):
        ask(TabuSampler(), MODEL, time_limit=float("nan"))
