"""The published rule: one angle, up by 0.05 after a trial that beat the best, else down by 0.05."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from coldpress.errors import ColdpressError
from coldpress.search import QIEASampler
from coldpress.search.legacy import SharedAngle
from coldpress.search.solutions import Solution

optuna.logging.set_verbosity(optuna.logging.WARNING)
AMOUNT = CategoricalDistribution([0.10, 0.25])


def test_the_angle_follows_the_published_rule_whatever_was_sampled():
    learner, angles = SharedAngle(), []
    for number, loss in enumerate([3.0, 2.0, 2.5, 1.0, 4.0]):
        learner = learner.learn(Solution(number, {"layer": 0.10}, {"layer": AMOUNT}, (loss,)))
        angles.append(round((learner.theta - math.pi / 4) / 0.05))
    assert angles == [1, 2, 1, 2, 1]
    assert learner.best.number == 3


def test_the_high_option_is_chosen_with_probability_sin_squared():
    generator = np.random.default_rng(0)
    drawn = [SharedAngle(1.1).observe(0, "layer", AMOUNT, generator) for _ in range(3000)]
    assert np.mean(np.array(drawn) == 0.25) == pytest.approx(math.sin(1.1) ** 2, abs=0.03)


def test_five_iterations_with_either_direction_sample_the_same():
    def search(direction, sign):
        study = optuna.create_study(direction=direction, sampler=QIEASampler(legacy=True, seed=3))
        study.optimize(
            lambda trial: sign * sum(trial.suggest_categorical(f"layer{i}", [0.10, 0.25]) for i in range(12)),
            n_trials=5,
        )
        return [trial.params for trial in study.trials]

    assert search("minimize", 1.0) == search("maximize", -1.0)


def test_what_the_rule_does_not_know_is_refused():
    study = optuna.create_study(sampler=QIEASampler(legacy=True, seed=0))
    with pytest.raises(ColdpressError, match=r"'rank'.*two options.*legacy=False"):
        study.optimize(lambda trial: trial.suggest_int("rank", 1, 9), n_trials=1)
    several = optuna.create_study(directions=["minimize"] * 2, sampler=QIEASampler(legacy=True, seed=0))
    with pytest.raises(ValueError, match="one objective"):
        several.optimize(lambda trial: (trial.suggest_categorical("a", [0, 1]), 0.0), n_trials=1)
