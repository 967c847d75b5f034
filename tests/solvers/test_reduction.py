"""A reduction rate is met whatever the sampler does, and by good samplers at the least loss."""

from __future__ import annotations

import itertools

import dimod
import numpy as np
import pytest
from dwave.samplers import SimulatedAnnealingSampler

from coldpress import binary
from coldpress.cost.reduction import reduction_rate
from coldpress.energy.weight_norm import weight_norm
from coldpress.errors import BudgetError, PlanError, SamplerError
from coldpress.filters import FilterSpace
from coldpress.samplers import ExhaustiveSampler, OneFlipTabuSampler
from coldpress.solvers.reduction import bisect_gamma, penalise, repair, slack_model
from tiny import chain, filters_of, images

Bqm = dimod.BinaryQuadraticModel


@pytest.fixture(scope="module")
def models() -> tuple[FilterSpace, Bqm, Bqm]:
    net = chain()
    space = filters_of(net, images(2), most_bits=4)
    return space, weight_norm(net, space), reduction_rate(space)


def everything(space: FilterSpace) -> list[dict[str, int]]:
    """All samples that leave something of each group."""
    samples = [space.sample(x) for x in itertools.product((0, 1), repeat=len(space.variables))]
    return [s for s in samples if not any(all(s[v] for v in names) for names in space.keep_one)]


def least_loss(models: tuple[FilterSpace, Bqm, Bqm], target: float) -> float:
    space, loss, reduction = models
    return min(loss.energy(s) for s in everything(space) if reduction.energy(s) >= target - 1e-12)


def feasible(models: tuple[FilterSpace, Bqm, Bqm], sample: dict[str, int], target: float) -> bool:
    space, _, reduction = models
    left = all(not all(sample[v] for v in names) for names in space.keep_one)
    return left and reduction.energy(sample) >= target - 1e-12 and set(sample) == set(space.variables)


@pytest.mark.parametrize("target", [0.1, 0.4, 0.6])
def test_repair_reaches_the_target_from_anywhere(models: tuple[FilterSpace, Bqm, Bqm], target: float) -> None:
    space, loss, reduction = models
    generator = np.random.default_rng(0)
    for strength in (0.0, 0.2, 0.8, 1.0):
        sample = space.sample(generator.random(len(space.variables)) < strength)
        assert feasible(models, repair(sample, loss, reduction, target, space.keep_one), target)


def test_repair_only_takes_back_from_what_is_feasible(models: tuple[FilterSpace, Bqm, Bqm]) -> None:
    space, loss, reduction = models
    for sample in everything(space)[::37]:
        rate = reduction.energy(sample)
        for target in (rate, 0.5 * rate):
            mended = repair(sample, loss, reduction, target, space.keep_one)
            assert loss.energy(mended) <= loss.energy(sample) + 1e-12
            assert feasible(models, mended, target)


def test_the_greatest_reduction_is_reached_and_more_is_refused_with_a_proof(
    models: tuple[FilterSpace, Bqm, Bqm],
) -> None:
    space, loss, reduction = models
    most = max(reduction.energy(s) for s in everything(space))
    mended = repair(dict.fromkeys(space.variables, 0), loss, reduction, most, space.keep_one)
    assert reduction.energy(mended) == pytest.approx(most)
    with pytest.raises(BudgetError, match=f"it is {most:.3f}"):
        repair(mended, loss, reduction, most + 1e-6, space.keep_one)


def test_another_member_of_a_set_stays_where_the_greedy_one_costs_too_much() -> None:
    loss = Bqm({"a": 1.0, "b": 5.0}, {}, 0.0, "BINARY")
    reduction = Bqm({"a": 1.0, "b": 2.0}, {}, 0.0, "BINARY")  # greedily a goes first, and b must stay
    assert repair({"a": 0, "b": 0}, loss, reduction, 2.0, [("a", "b")]) == {"a": 0, "b": 1}


@pytest.mark.parametrize("target", [0.2, 0.5, 0.65])
def test_bisection_with_an_exact_sampler_is_near_the_optimum(
    models: tuple[FilterSpace, Bqm, Bqm], target: float
) -> None:
    space, loss, reduction = models
    found = bisect_gamma(loss, reduction, target, ExhaustiveSampler(), space.keep_one, num_reads=20)
    best = least_loss(models, target)
    assert feasible(models, found.sample, target)
    assert found.loss == pytest.approx(loss.energy(found.sample))
    assert found.reduction == pytest.approx(reduction.energy(found.sample))
    assert best - 1e-12 <= found.loss <= 1.25 * best
    if found.raw is not None:
        assert found.loss <= found.raw[0] + 1e-12
    by_gamma = sorted(found.trace)
    assert all(a[2] <= b[2] + 1e-9 for a, b in itertools.pairwise(by_gamma))


@pytest.mark.parametrize("sampler", [OneFlipTabuSampler(), SimulatedAnnealingSampler()])
@pytest.mark.parametrize("way", [bisect_gamma, penalise])
def test_any_sampler_meets_the_target(
    models: tuple[FilterSpace, Bqm, Bqm], sampler: dimod.Sampler, way: object
) -> None:
    space, loss, reduction = models
    for target in (0.3, 0.6):
        found = way(loss, reduction, target, sampler, space.keep_one, seed=1, num_reads=4)  # type: ignore[operator]
        assert feasible(models, found.sample, target)
        assert found.loss <= 3 * least_loss(models, target)


def test_a_sampler_that_finds_nothing_good_still_gives_what_is_feasible(models: tuple[FilterSpace, Bqm, Bqm]) -> None:
    space, loss, reduction = models

    class Idle(dimod.Sampler):
        parameters: dict[str, list[str]] = {}  # noqa: RUF012
        properties: dict[str, object] = {}  # noqa: RUF012

        def sample(self, bqm: Bqm, **_: object) -> dimod.SampleSet:
            return dimod.SampleSet.from_samples_bqm(dict.fromkeys(bqm.variables, 0), bqm)

    found = bisect_gamma(loss, reduction, 0.5, Idle(), space.keep_one)
    assert found.raw is None
    assert feasible(models, found.sample, 0.5)


def test_the_penalty_is_nothing_where_the_slack_fits() -> None:
    loss = Bqm({"a": 1.0, "b": 2.0}, {("a", "b"): 0.5}, 0.0, "BINARY")
    reduction = Bqm({"a": 0.5, "b": 0.75}, {("a", "b"): -0.25}, 0.0, "BINARY")
    model = slack_model(loss, reduction, 0.75, penalty=10.0, slack_bits=1)  # a slack of 0 or of 0.25
    assert set(model.variables) == {"a", "b", "a*b", "slack0"}
    least = {
        (a, b): min(model.energy({"a": a, "b": b, "a*b": y, "slack0": s}) for y in (0, 1) for s in (0, 1))
        for a, b in itertools.product((0, 1), repeat=2)
    }
    for (a, b), value in least.items():
        x = {"a": a, "b": b}
        missing = max(0.75 - reduction.energy(x), 0.0)
        assert value == pytest.approx(loss.energy(x) + 10.0 * missing**2)


def test_answers_of_other_variables_are_refused(models: tuple[FilterSpace, Bqm, Bqm]) -> None:
    space, loss, reduction = models

    class Other(dimod.NullSampler):
        def sample(self, bqm: Bqm, **_: object) -> dimod.SampleSet:
            return dimod.SampleSet.from_samples({"z": 1}, "BINARY", [0.0])

    with pytest.raises(SamplerError, match="other variables"):
        bisect_gamma(loss, reduction, 0.3, Other(), space.keep_one)


def test_models_that_do_not_fit_are_refused(
    models: tuple[FilterSpace, Bqm, Bqm], monkeypatch: pytest.MonkeyPatch
) -> None:
    space, loss, reduction = models
    zeros = dict.fromkeys(space.variables, 0)
    with pytest.raises(SamplerError, match="same variables"):
        repair(zeros, Bqm({"a": 1.0}, {}, 0.0, "BINARY"), reduction, 0.3)
    with pytest.raises(SamplerError, match="can fall"):
        repair({"a": 0}, Bqm({"a": 1.0}, {}, 0.0, "BINARY"), Bqm({"a": -1.0}, {}, 1.0, "BINARY"), 0.3)
    with pytest.raises(SamplerError, match="spins"):
        repair({"a": 0}, Bqm({"a": 1.0}, {}, 0.0, "SPIN"), Bqm({"a": 1.0}, {}, 0.0, "BINARY"), 0.3)
    with pytest.raises(SamplerError, match="no others"):
        repair({"a": 0}, loss, reduction, 0.3)
    with pytest.raises(SamplerError, match="above 0"):
        slack_model(loss, reduction, 0.3, penalty=0.0)
    monkeypatch.setattr(binary, "MOST_COUPLINGS", 100)
    with pytest.raises(SamplerError, match="a penalty on this reduction rate"):
        slack_model(loss, reduction, 0.3, penalty=1.0)


class Timed(dimod.Sampler):
    """Brute force that notes what time it is given, and proves its answer."""

    parameters: dict[str, list[str]] = {"time_limit": []}  # noqa: RUF012
    properties: dict[str, object] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.given: list[float] = []

    def sample(self, bqm: Bqm, time_limit: float, **_: object) -> dimod.SampleSet:
        self.given.append(time_limit)
        found = ExhaustiveSampler().sample(bqm)
        found.info["lower_bound"] = float(found.first.energy)
        return found


@pytest.mark.parametrize("target", [0.2, 0.5])
def test_a_proven_bound_of_the_models_bounds_the_loss(models: tuple[FilterSpace, Bqm, Bqm], target: float) -> None:
    space, loss, reduction = models
    sampler = Timed()
    found = bisect_gamma(loss, reduction, target, sampler, space.keep_one, time_limit=60.0)
    assert found.bound is not None
    assert 0.5 * least_loss(models, target) <= found.bound <= least_loss(models, target) + 1e-9
    assert bisect_gamma(loss, reduction, target, ExhaustiveSampler(), space.keep_one).bound is None
    assert len(sampler.given) == len(found.trace)
    assert all(0.0 < seconds <= 60.0 for seconds in sampler.given)


def test_when_the_time_is_up_no_run_begins(models: tuple[FilterSpace, Bqm, Bqm]) -> None:
    space, loss, reduction = models
    found = bisect_gamma(loss, reduction, 0.6, Timed(), space.keep_one, time_limit=1e-9)
    assert len(found.trace) == 1
    assert feasible(models, found.sample, 0.6)


@pytest.mark.parametrize("limit", [0, -1.0, float("nan")])
def test_a_time_limit_that_is_none_is_refused(models: tuple[FilterSpace, Bqm, Bqm], limit: float) -> None:
    space, loss, reduction = models
    with pytest.raises(PlanError, match="time_limit is"):
        bisect_gamma(loss, reduction, 0.4, OneFlipTabuSampler(), space.keep_one, time_limit=limit)


def test_the_spread_of_reads_and_broken_chains_are_kept(models: tuple[FilterSpace, Bqm, Bqm]) -> None:
    class Embedded(OneFlipTabuSampler):
        def sample(self, bqm, **parameters):
            found = super().sample(bqm, num_reads=5, num_restarts=1, seed=0)
            found.info["chain_break_fraction"] = 0.25
            return found

    space, loss, reduction = models
    found = bisect_gamma(loss, reduction, 0.4, Embedded(), space.keep_one, steps=2)
    assert found.chain_breaks == 0.25
    assert found.read_energies is not None
    assert list(found.read_energies) == sorted(found.read_energies)
    assert len(found.read_energies) == 3
    alone = bisect_gamma(loss, reduction, 0.4, OneFlipTabuSampler(), space.keep_one, steps=2, seed=0)
    assert alone.chain_breaks is None
    assert alone.read_energies is None
