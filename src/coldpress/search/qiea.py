"""QIEASampler: the quantum-inspired evolutionary search as an Optuna sampler."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from coldpress.errors import SearchError
from coldpress.search.legacy import SharedAngle
from coldpress.search.population import LARGEST_EPSILON, Population, Rules
from coldpress.search.replay import Learner, Moment, Replay

ATTEMPTS = 20
"""Draws for one trial until it differs from every other trial."""
LEARNED = (TrialState.COMPLETE, TrialState.PRUNED)
CONSTRAINTS = "constraints"
"""The system attribute in which Optuna keeps what a sampler's ``constraints_func`` returned."""


@dataclass(frozen=True)
class View:
    """What one trial sees: the state after the finished trials, and the parameters of the trials not to repeat."""

    key: tuple[Any, ...]
    moment: Moment
    others: list[dict[str, Any]]


class QIEASampler(BaseSampler):
    """A quantum-inspired evolutionary search, run on an ordinary computer.

    Each individual of a population holds, for every parameter, the amplitudes of its options (a q-bit for two, a
    q-dit for a categorical) or, where options have an order, an angle in [0, pi/2] along the range with a Gaussian
    around it (ints, floats, steps, log ranges). A trial shows one individual's state, each option with its squared
    amplitude as probability. After a trial worse than the individual's best, the state of every parameter that differs
    from the best's is turned toward it, by the look-up table of Han and Kim (2002); the H-epsilon bound (2004) keeps
    every option possible. Neighbours, and every few generations all, hand on their best.

    Several objectives are compared by non-dominated sorting and crowding, constraints (`Trial.set_constraint`, or
    ``constraints_func``) by constrained domination. Pruned trials count as worse than complete ones that violate the
    constraints as much, failed ones are ignored. Spaces may be conditional, ranges may change from trial to trial. A
    trial is drawn anew, under a widening bound, where it would repeat another.

    The state is replayed from the study's finished trials and every draw depends on seed, trial number and parameter
    name alone. So a study that is stopped and resumed with the same seed goes on as if it had not been, and any number
    of workers may share a storage and a seed.

    Sources: K.-H. Han, J.-H. Kim, "Quantum-inspired evolutionary algorithm for a class of combinatorial optimization",
    IEEE Transactions on Evolutionary Computation 6(6), 2002; the same, "Quantum-inspired evolutionary algorithms with a
    new termination criterion, H-epsilon gate, and two-phase scheme", 8(2), 2004. Two options per unit are theirs; the
    q-dit, the ordered angle and the renewed draw are additions. The defaults were chosen by a measurement at 50 to 500
    trials (``benchmarks/qiea_defaults.py``) and are for budgets of that size: a q-bit settles in two turns, and the
    search is then close to a hill climb. For thousands of trials take a larger population and a smaller rotation.

    Args:
        population_size: individuals, 1 or more; by default 1, the best measured at so few trials (a larger one
            searches wider and slower), and 6 where there are several objectives.
        rotation: how far a state turns at once, radians, more than 0 and at most pi/2.
        epsilon: least probability of all options but the likeliest together, 0 to 0.4.
        migration_interval: generations (``population_size`` trials) between two migrations among all, 1 or more.
        legacy: the published rule to the letter, for comparison: one angle for all parameters, from pi/4, up by 0.05
            after a trial that beat the best and down by 0.05 after any other; the second of a parameter's two options
            is chosen with probability sin^2. The arguments before this one are not used. One objective only.
        constraints_func: from a finished trial, a sequence of numbers that are 0 or less where it is feasible.
        seed: 0 or more; by default a new one.

    Raises:
        SearchError: an argument is out of its range.

    Example:
        >>> import optuna
        >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
        >>> study = optuna.create_study(sampler=QIEASampler(seed=0))
        >>> def loss(trial):
        ...     return sum(trial.suggest_categorical(f"unit{i}", ["keep", "drop"]) == "drop" for i in range(8))
        >>> study.optimize(loss, n_trials=50)
        >>> study.best_value
        0.0
    """

    def __init__(
        self,
        *,
        population_size: int | None = None,
        rotation: float = 0.2 * math.pi,
        epsilon: float = 0.01,
        migration_interval: int = 1,
        legacy: bool = False,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
        seed: int | None = None,
    ) -> None:
        _check("population_size", population_size, "1 or more", population_size is None or population_size >= 1)
        _check("rotation", rotation, "more than 0 and at most pi/2 (radians)", 0.0 < rotation <= math.pi / 2)
        _check("epsilon", epsilon, f"0 to {LARGEST_EPSILON}", 0.0 <= epsilon <= LARGEST_EPSILON)
        _check("migration_interval", migration_interval, "1 or more", migration_interval >= 1)
        _check("seed", seed, "0 or more, or None for a new one", seed is None or seed >= 0)
        self._population_size = population_size
        self._rotation = rotation
        self._epsilon = epsilon
        self._migration_interval = migration_interval
        self._legacy = legacy
        self._constraints_func = constraints_func
        self._seed = secrets.randbits(32) if seed is None else seed
        # Caches of what storage says: replaced whole, never changed, so that threads may share the sampler.
        self._replay: Replay | None = None
        self._view: View | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that every complete trial has, with the same distribution each."""
        common = {} if self._legacy else self._look(study, trial).moment.common or {}
        return {name: common[name] for name in sorted(common) if not common[name].single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values for the parameters of ``search_space``, unlike those of any other trial where that can be had."""
        if not search_space:
            return {}
        others = self._look(study, trial).others
        params: dict[str, Any] = {}
        for attempt in range(ATTEMPTS):
            params = {name: self._observe(study, trial, name, of, attempt) for name, of in search_space.items()}
            if self._legacy or params not in others:
                break
        return params

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A value for a parameter that is new, conditional, or has a changing range."""
        return self._observe(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Store the constraints with the trial, as Optuna's own samplers do."""
        if self._constraints_func is None or state not in LEARNED:
            return
        constraints = None
        try:
            found = tuple(float(value) for value in self._constraints_func(trial))
            if any(math.isnan(value) for value in found):
                raise SearchError(
                    f"constraints_func gave {found} for trial {trial.number}; NaN is neither kept nor broken"
                )
            constraints = found
        finally:
            study._storage.set_trial_system_attr(trial._trial_id, CONSTRAINTS, constraints)

    def _observe(
        self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution, attempt: int = 0
    ) -> Any:
        learner = self._look(study, trial).moment.learner
        generator = np.random.default_rng([self._seed, trial.number, attempt, *name.encode()])
        return learner.observe(trial.number, name, distribution, generator, attempt)

    def _look(self, study: Study, trial: FrozenTrial) -> View:
        """What a trial sees of the study, the same throughout the trial."""
        key = (study._study_id, trial._trial_id, trial.datetime_start)
        view = self._view
        if view is not None and view.key == key:
            return view
        trials, directions, replay = study.get_trials(deepcopy=False), tuple(study.directions), self._replay
        if replay is None or replay.directions != directions:
            replay = Replay.start(directions, self._learner(len(directions)))
        self._replay = replay = replay.upto([one for one in trials if one.state in LEARNED])
        others = [one.params for one in trials if one.state is not TrialState.FAIL and one.number != trial.number]
        self._view = view = View(key, replay.moments[-1], others)
        return view

    def _learner(self, objectives: int) -> Learner:
        if self._legacy:
            _check("legacy", True, "used with one objective", objectives == 1)
            return SharedAngle()
        size = self._population_size or (1 if objectives == 1 else 6)
        return Population.start(Rules(size, self._rotation, self._epsilon, self._migration_interval))


def _check(name: str, value: Any, allowed: str, good: bool) -> None:
    if not good:
        raise SearchError(f"{name} of QIEASampler is {value!r}; it must be {allowed}")
