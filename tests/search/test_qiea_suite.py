"""Optuna's own suite for samplers, on every form of ours that takes any parameter."""

import pytest
from optuna.testing.pytest_samplers import (
    BasicSamplerTestCase,
    MultiObjectiveSamplerTestCase,
    RelativeSamplerTestCase,
)

from coldpress.search import QIEASampler

FORMS = [{}, {"population_size": 2, "epsilon": 0.0}, {"population_size": 7, "migration_interval": 3}]


@pytest.fixture(params=FORMS, ids=["default", "two", "seven"])
def make(request):
    return lambda: QIEASampler(seed=0, **request.param)


class TestQIEASampler(BasicSamplerTestCase, RelativeSamplerTestCase, MultiObjectiveSamplerTestCase):
    @pytest.fixture
    def sampler(self, make):
        return make
