"""What a trial is worth: the same as running the plan, by deterministic costs, on the options that are on offer."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
import torch

from coldpress.cost.macs import macs_cost
from coldpress.cost.size import size_cost
from coldpress.energy.correlation import measure_plans, random_plans
from coldpress.errors import SearchError, TaskError
from coldpress.network import evaluating
from coldpress.plan import Option, Plan, Unit
from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.recipe import KINDS, Recipe
from coldpress.search.objective import Objective, SearchSettings, offered
from coldpress.search.samplers import sampler
from coldpress.surgery.apply import apply_plan
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import collect_moments
from tiny import Projected, as_if_trained, images, space_of

optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(*extra: Cost, limits: dict[str, float | str] | None = None, **settings: object) -> Objective:
    torch.manual_seed(0)
    model = as_if_trained(Projected())
    space = space_of(model, images(1), "width", "rank", "depth")
    moments = collect_moments(model, [site.name for site in space.sites], images(48), seed=0)
    costs = {cost.name: cost for cost in (size_cost(space, 0.0), macs_cost(space, 0.0), *extra)}
    options = sum(space.sizes)
    problem = Problem(space, Energy(np.zeros((options, options)), np.zeros(options)), costs)
    original = problem.originals
    budget = {name: original[name] * float(value) for name, value in (limits or {}).items()}
    problem = Problem.from_json(Problem(space, problem.energy, costs, type(problem.budget)(**budget)).to_json())
    (inputs,) = images(100, seed=5)
    with evaluating(model):
        labels = model(inputs).argmax(1)
    chosen = SearchSettings(**{"rungs": 1, "objectives": ("kl",), **settings})  # type: ignore[arg-type]
    return Objective(space, Effects(model, space, moments), problem, ([inputs], labels), chosen)


@pytest.fixture(scope="module")
def plain() -> Objective:
    return objective()


def test_the_values_are_those_of_the_network_with_the_plan_carried_out(plain: Objective) -> None:
    model = plain.effects.model
    for drawn in random_plans(plain.space, 4, seed=1, most=0.9):
        choices = plain.allowed(drawn)
        found = plain.value(choices)
        (kl,) = measure_plans(model, plain.effects, [choices], plain.inputs)
        assert found["kl"] == pytest.approx(kl, rel=1e-3, abs=1e-6)
        plan = Plan(choices, plain.effects.kept(choices))
        student, _ = apply_plan(model, plain.space, plan, moments=plain.effects.moments)
        with evaluating(student):
            logits = student(*plain.inputs)
        assert found["accuracy"] == pytest.approx(float((logits.argmax(1) == plain.labels).float().mean()), abs=0.02)
        assert found["macs"] < plain.problem.originals["macs"] or not choices
    assert "forward" not in vars(model.first.conv1)


def test_the_fitness_is_the_published_sum() -> None:
    settings = SearchSettings()
    assert settings.fitness(0.914, 0.18914, 268e6) == pytest.approx(0.7 * 0.086 + 0.2 * 0.9457 + 0.1 * 268 / 300)
    found = objective(Cost("latency", (), 0.05), objectives=("fitness",)).value({})
    assert found["accuracy"] == 1.0
    assert found["kl"] == pytest.approx(0.0, abs=1e-6)
    assert found["fitness"] == pytest.approx(0.2 * 50 / 200 + 0.1 * found["size"] / 300e6)


def test_a_fitness_with_latency_is_not_given_where_latency_is_not_known(plain: Objective) -> None:
    assert np.isnan(plain.value({})["fitness"])
    found = objective(objectives=("fitness",), weights=(0.7, 0.0, 0.1)).value({})
    assert found["fitness"] == pytest.approx(0.1 * found["size"] / 300e6)


def test_what_the_objectives_count_is_decided_and_measured() -> None:
    recipe = Recipe(budget=("macs=50%",))
    fitness, sizes, kl = (SearchSettings(objectives=names) for names in (("fitness",), ("kl", "size"), ("kl",)))
    assert recipe.kinds(fitness.costs) == KINDS == recipe.kinds(sizes.costs)
    assert recipe.kinds(kl.costs) == recipe.kinds() == ("width", "rank", "depth")
    narrow = Recipe(budget=("macs=50%",), units=("width", "depth"))
    assert narrow.wants_latency(fitness.costs)
    assert not narrow.wants_latency(kl.costs)
    assert not narrow.wants_latency(SearchSettings(weights=(0.7, 0.0, 0.1)).costs)
    with pytest.raises(TaskError, match="neither budget nor objective speaks of what would count for vocabulary"):
        Recipe(units=("vocabulary",)).kinds(("latency",))


def test_a_study_finds_a_plan_and_the_plan_gives_its_parameters_back(plain: Objective) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: plain(trial)[0], 6)
    for trial in study.trials:
        choices = plain.suggest(optuna.trial.FixedTrial(trial.params))
        assert choices == plain.suggest(optuna.trial.FixedTrial(plain.params(choices)))
        choices = plain.allowed(choices)
        assert trial.user_attrs["choices"] == choices
        assert trial.user_attrs["costs"]["macs"] == plain.value(choices)["macs"]
    with pytest.raises(SearchError, match="not nothing"):
        plain.params({plain.space.units[0].name: "nothing"})


def test_what_a_cost_forbids_is_left_out_of_the_plan_ranks_first() -> None:
    base = objective()
    {unit.name: u for u, unit in enumerate(base.space.units)}
    width, rank = (
        next(u for u, unit in enumerate(base.space.units) if unit.kind == kind) for kind in ("width", "rank")
    )
    table = np.zeros((base.space.sizes[width], base.space.sizes[rank]))
    table[1:, 1:] = np.inf
    changed = objective(Cost("latency", (Factor((width, rank), table),)))
    unit, other = base.space.units[width], base.space.units[rank]
    both = {unit.name: unit.options[1].label, other.name: other.options[1].label}
    assert changed.allowed(both) == {unit.name: unit.options[1].label}
    assert base.allowed(both) == both


def test_limits_are_constraints_and_trials_that_fall_behind_are_stopped() -> None:
    limited = objective(limits={"macs": 0.6}, objectives=("kl",), rungs=4)
    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=0), pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=64)
    )
    study.optimize(lambda trial: limited(trial)[0], 12)
    states = {trial.state.name for trial in study.trials}
    assert states == {"COMPLETE", "PRUNED"}
    for trial in study.trials:
        over = trial.user_attrs["costs"]["macs"] / limited.problem.limits["macs"] - 1.0
        assert trial.constraints == pytest.approx({"macs": over})


def test_trials_beyond_a_limit_stop_none_within_it_and_are_not_stopped() -> None:
    limited = objective(limits={"macs": 0.6}, sampler="qiea", rungs=4)
    study = optuna.create_study(
        sampler=sampler("qiea", 0), pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=64, reduction_factor=3)
    )
    study.enqueue_trial(limited.params({}))  # the network as it is: loses nothing, and is beyond the limit
    study.optimize(lambda trial: limited(trial)[0], 15)
    within = [max(trial.constraints.values()) <= 0.0 for trial in study.trials]
    states = [{t.state.name for t, fine in zip(study.trials, within) if fine is side} for side in (True, False)]
    assert states == [{"COMPLETE", "PRUNED"}, {"COMPLETE"}]
    assert [bool(trial.intermediate_values) for trial in study.trials] == within


def test_trials_are_stopped_with_any_sampler_of_one_objective_but_the_published_rule() -> None:
    assert SearchSettings(sampler="optuna.samplers.RandomSampler").pruned
    assert not SearchSettings(sampler="optuna.samplers.RandomSampler", rungs=1).pruned
    assert not SearchSettings(sampler="legacy").pruned


def test_bytes_are_another_name_of_the_size() -> None:
    settings = SearchSettings(objectives=("accuracy", "bytes"))
    assert settings == SearchSettings(objectives=("accuracy", "size"))
    assert settings.costs == ("size",)


def test_logits_that_are_many_are_computed_anew_for_each_trial_to_the_same_values(
    plain: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plain.original is not None
    monkeypatch.setattr("coldpress.search.objective.MOST_LOGITS", 33 * 5)
    small = objective()
    assert (small.original, small.batch) == (None, 33)
    (choices,) = (plain.allowed(drawn) for drawn in random_plans(plain.space, 1, seed=1, most=0.9))
    assert small.value(choices) == pytest.approx(plain.value(choices), rel=1e-4, nan_ok=True)
    assert "forward" not in vars(small.effects.model.first.conv1)


def test_several_objectives_are_given_in_their_order_and_directions() -> None:
    several = objective(objectives=("accuracy", "macs"), weights=(0.7, 0.0, 0.3))
    assert several.settings.directions == ["maximize", "minimize"]
    assert not several.settings.pruned
    study = optuna.create_study(directions=several.settings.directions)
    study.optimize(several, 2)
    assert study.trials[0].values[1] == study.trials[0].user_attrs["costs"]["macs"]


def test_the_legacy_search_offers_two_options_each() -> None:
    legacy = objective(sampler="legacy")
    assert legacy.settings.options == 2
    assert all(len(labels) == 2 and labels[0] == "keep" for labels in legacy.labels_of.values())
    unit = Unit("u", "width", "u", tuple(Option(str(i)) for i in range(7)))
    assert offered(unit, 0) == offered(unit, 9) == list("0123456")
    assert [offered(unit, count) for count in (2, 3, 4)] == [list("03"), list("036"), list("0246")]


def test_another_space_or_a_missing_cost_is_refused(plain: Objective) -> None:
    problem = Problem.from_arrays([2], Energy(np.zeros((2, 2)), np.zeros(2)))
    data = (plain.inputs, plain.labels)
    with pytest.raises(SearchError, match="not those that the study"):
        Objective(plain.space, plain.effects, problem, data, plain.settings)
    for names in (("latency",), ("fitness",), ("kl", "macs")):  # of the last, the fitness chooses from the front
        with pytest.raises(SearchError, match=f"{' and '.join(names)} would leave latency out"):
            objective(objectives=names)
