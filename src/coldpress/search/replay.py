"""The sampler's state rebuilt from the finished trials: storage is all that a restart or another worker needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from coldpress.search.solutions import Solution


class Learner(Protocol):
    """What learns from trials and shows values; a value itself, never changed."""

    def observe(
        self, number: int, name: str, distribution: BaseDistribution, generator: np.random.Generator, attempt: int = 0
    ) -> Any:
        """A value for a parameter of trial ``number``."""

    def learn(self, seen: Solution) -> Learner:
        """The learner after one more trial."""


@dataclass(frozen=True)
class Moment:
    """The state after some trials.

    Args:
        learner: what they taught.
        common: the parameters that all complete ones have, with one distribution each; None before the first.
    """

    learner: Learner
    common: Mapping[str, BaseDistribution] | None = None

    def after(self, trial: FrozenTrial, directions: Sequence[StudyDirection]) -> Moment:
        """The state after one more trial."""
        common = self.common
        if trial.state is TrialState.COMPLETE:
            own = trial.distributions
            common = own if common is None else {n: d for n, d in common.items() if own.get(n) == d}
        return Moment(self.learner.learn(solution(trial, directions)), common)


@dataclass(frozen=True)
class Replay:
    """Moments after each finished trial, in the order of the trials' numbers: a cache that can be thrown away.

    A trial that finishes late, behind others of a higher number, is put in its place, and what followed it is learned
    again: the state is a function of the finished trials alone, whichever process asks.

    Args:
        directions: of the study.
        marks: number and time of finishing of each trial, (trials,).
        moments: before the first trial and after each, (trials + 1,).
    """

    directions: tuple[StudyDirection, ...]
    marks: tuple[Any, ...]
    moments: tuple[Moment, ...]

    @classmethod
    def start(cls, directions: Sequence[StudyDirection], learner: Learner) -> Replay:
        """Nothing learned."""
        return cls(tuple(directions), (), (Moment(learner),))

    def upto(self, trials: Sequence[FrozenTrial]) -> Replay:
        """With exactly these finished trials learned."""
        trials = sorted(trials, key=lambda trial: trial.number)
        marks = tuple((trial.number, trial.datetime_complete) for trial in trials)
        same = 0
        for known, mark in zip(self.marks, marks, strict=False):
            if known != mark:
                break
            same += 1
        moments = list(self.moments[: same + 1])
        for trial in trials[same:]:
            moments.append(moments[-1].after(trial, self.directions))
        return Replay(self.directions, marks, tuple(moments))


def solution(trial: FrozenTrial, directions: Sequence[StudyDirection]) -> Solution:
    """What a finished trial says; a pruned one has no losses, as its values were not reached in full."""
    losses = None
    if trial.state is TrialState.COMPLETE:
        signs = [-1.0 if direction is StudyDirection.MAXIMIZE else 1.0 for direction in directions]
        losses = tuple(sign * value for sign, value in zip(signs, trial.values, strict=True))
    violation = sum(value for value in trial.constraints.values() if value > 0.0)
    return Solution(trial.number, trial.params, trial.distributions, losses, float(violation))
