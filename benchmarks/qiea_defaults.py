"""Defaults of QIEASampler, one argument changed at a time, on cheap discrete functions, at 50, 200 and 500 trials.

``python benchmarks/qiea_defaults.py --out benchmarks/results/qiea_defaults.json`` takes about five minutes on one core;
``--others`` adds Optuna's samplers at 50 and 200 trials (TPE is the slow one). A row holds, for each number of trials,
the mean over the seeds of the regret: 0 is the best value known, 1 the mean of random configurations; with two
objectives it is 1 - hypervolume, in units of the box between the origin and the worst values.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from coldpress.search import QIEASampler
from record import Record

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    **{f"population_size={n}": {"population_size": n} for n in (1, 2, 4, 10)},
    **{f"rotation={n} pi": {"rotation": n * math.pi} for n in (0.1, 0.25)},
    **{f"epsilon={n}": {"epsilon": n} for n in (0.003, 0.03)},
    **{f"migration_interval={n}": {"migration_interval": n} for n in (3,)},
}
OTHERS: Mapping[str, Callable[[int], optuna.samplers.BaseSampler]] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "nsga2, population 20": lambda seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=20),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
}


@dataclass(frozen=True)
class Function:
    """Sum of a term per option and of a term per two options of different units, to be minimised.

    Args:
        alone: (units, options).
        pairs: (units, options, units, options), symmetric, 0 within a unit.
        cost: (units, options), the second objective; None where there is one.
        ordered: whether the options are suggested as an int.
    """

    alone: np.ndarray
    pairs: np.ndarray
    cost: np.ndarray | None = None
    ordered: bool = False

    def __call__(self, trial: optuna.Trial) -> Any:
        units, options = self.alone.shape
        if self.ordered:
            choice = [trial.suggest_int(f"unit{i:02d}", 0, options - 1) for i in range(units)]
        else:
            choice = [trial.suggest_categorical(f"unit{i:02d}", list(range(options))) for i in range(units)]
        if self.cost is None:
            return self.value(np.array(choice))
        return self.value(np.array(choice)), float(self.cost[np.arange(units), choice].sum())

    def value(self, choice: np.ndarray) -> float:
        """The first objective at a choice (units,)."""
        every = np.arange(len(choice))
        return float(self.alone[every, choice].sum() + 0.5 * self.field(choice)[every, choice].sum())

    def field(self, choice: np.ndarray) -> np.ndarray:
        """What each option (units, options) shares with the options chosen in the other units."""
        return self.pairs[:, :, np.arange(len(choice)), choice].sum(-1)

    def best(self, generator: np.random.Generator, starts: int = 200) -> float:
        """The least value that descents by one unit at a time find."""
        least = math.inf
        for _ in range(starts):
            choice = generator.integers(self.alone.shape[1], size=len(self.alone))
            while True:
                gain = self.alone + self.field(choice)
                gain = gain - gain[np.arange(len(choice)), choice][:, None]
                unit, option = np.unravel_index(gain.argmin(), gain.shape)
                if gain[unit, option] > -1e-9:
                    break
                choice[unit] = option
            least = min(least, self.value(choice))
        return least


def separable(generator: np.random.Generator, units: int = 24, options: int = 4) -> Function:
    """Each option's harm alone."""
    return Function(generator.exponential(1.0, (units, options)), np.zeros((units, options, units, options)))


def pairwise(generator: np.random.Generator, units: int = 24, options: int = 4, weight: float = 1.0) -> Function:
    """And the inner products of random directions for every two options, as a curvature energy has."""
    directions = generator.normal(size=(units, options, units // 2))
    pairs = np.einsum("iar,jbr->iajb", directions, directions) * weight / (units // 2) / math.sqrt(units)
    pairs[np.arange(units), :, np.arange(units), :] = 0.0
    return Function(separable(generator, units, options).alone, pairs)


def rugged(generator: np.random.Generator) -> Function:
    """The pairs outweigh the single terms."""
    return pairwise(generator, weight=8.0)


def small(generator: np.random.Generator) -> Function:
    """Few units, strong pairs: several valleys, and draws that repeat."""
    return pairwise(generator, units=8, options=5, weight=3.0)


def ordered(generator: np.random.Generator, units: int = 24, options: int = 8) -> Function:
    """Eight ordered levels for each unit: a valley for each, and directions along the levels."""
    level = np.arange(options) / (options - 1)
    alone = generator.exponential(1.0, (units, 1)) * (level - generator.random((units, 1))) ** 2
    directions = generator.normal(size=(units, 1, units // 2)) * level[:, None]
    pairs = np.einsum("iar,jbr->iajb", directions, directions) * 0.3 / (units // 2) / math.sqrt(units)
    pairs[np.arange(units), :, np.arange(units), :] = 0.0
    return Function(alone, pairs, ordered=True)


def two_objectives(generator: np.random.Generator, units: int = 20, options: int = 4) -> Function:
    """Harm rises with the option, cost falls."""
    harm = np.sort(generator.exponential(1.0, (units, options)), axis=1)
    harm[:, 0] = 0.0
    cost = -np.sort(-generator.random((units, options)), axis=1)
    return Function(harm, np.zeros((units, options, units, options)), cost, ordered=True)


FAMILIES = {one.__name__: one for one in (separable, pairwise, rugged, small, ordered, two_objectives)}


def regrets(family: str, seed: int, sampler: optuna.samplers.BaseSampler, marks: list[int]) -> list[float]:
    """The regret after each number of trials in ``marks``."""
    generator = np.random.default_rng([20020606, seed])
    function = FAMILIES[family](generator)
    directions = ["minimize"] * (1 if function.cost is None else 2)
    study = optuna.create_study(directions=directions, sampler=sampler)
    study.optimize(function, n_trials=marks[-1])
    values = np.array([trial.values for trial in study.get_trials(deepcopy=False)])
    if function.cost is not None:
        worst = np.array([function.alone.max(1).sum(), function.cost.max(1).sum()])
        return [1.0 - covered(values[:mark] / worst) for mark in marks]
    units, options = function.alone.shape
    usual = float(np.mean([function.value(generator.integers(options, size=units)) for _ in range(2000)]))
    best = function.best(generator)
    return [float((values[:mark].min() - best) / (usual - best)) for mark in marks]


def covered(points: np.ndarray) -> float:
    """The area of the unit square that points (n, 2) dominate."""
    area, lowest = 0.0, 1.0
    for first, second in sorted(map(tuple, points)):
        if second < lowest:
            area += (1.0 - first) * (lowest - second)
            lowest = second
    return float(area)


def main() -> None:
    """Measure what is missing in the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--out", default="benchmarks/results/qiea_defaults.json")
    given = parser.parse_args()
    others, given.others = given.others, None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    record = Record(given, "setting", "family")
    ours = {name: (lambda seed, kw=kw: QIEASampler(seed=seed, **kw), [50, 200, 500]) for name, kw in SETTINGS.items()}
    theirs = {name: (make, [50, 200]) for name, make in OTHERS.items()} if others else {}
    for (setting, (make, marks)), family in itertools.product({**ours, **theirs}.items(), FAMILIES):
        if record.has(setting=setting, family=family, n=given.seeds):
            continue
        found = np.array([regrets(family, seed, make(1000 + seed), marks) for seed in range(given.seeds)])
        means = {f"regret_{mark}": round(float(value), 4) for mark, value in zip(marks, found.mean(0), strict=True)}
        record.add(setting=setting, family=family, n=given.seeds, **means, by_seed=found.round(4).tolist())


if __name__ == "__main__":
    main()
