"""Searches against each other, and against the curvature solver, on a table of true measured losses.

    python benchmarks/search_table.py --model cifar_resnet20 --weights W --data-dir DIR --out results/search_table.json

All plans over a few width units of a network are run once (KL to the original and accuracy on samples of train, before
the sequential re-fit); then every sampler looks for the least loss within a limit on MACs, at 50 and 200 evaluations,
which the table answers; those of `LONG` go on to 1000, to see when they reach the solver's loss. The loss is the KL, as
in the figures committed, or by `--loss accuracy` the share of samples that are wrong. A plan over the limit costs ten
more for each share of the limit that it takes too much. The solver knows the sensitivities alone, made on other
samples, and is looked up once. The published rule ("legacy") knows two options a unit, the first and the third, and
five evaluations: random search of the same stands beside it.
"genetic" is the population of the solver `genetic`, twenty plans a generation, "policy gradient" the policy of
`reinforce`, ten plans an update, both otherwise as they stand there, each evaluation counted; but they are told what a
plan over the limit costs, as the others are, and do not bring it inside. "nsga2" is Optuna's genetic algorithm.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from scipy import stats

import coldpress as cp
from coldpress.cost.macs import macs_cost
from coldpress.energy.curvature import sensitivities
from coldpress.problem import Problem
from coldpress.search.objective import Objective, SearchSettings, offered
from coldpress.search.prepare import trial_data
from coldpress.search.samplers import sampler
from coldpress.solvers.genetic import Population
from coldpress.solvers.reinforce import Policy
from coldpress.space import find_space
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import collect_moments
from record import Record, arguments, spread, task_of

SAMPLERS = ("random", "tpe", "nsga2", "genetic", "policy gradient", "qiea", "legacy", "random of two")
TWO = ("legacy", "random of two")
OVER = 10.0
BATCH = 10
"""Plans of one update of the policy."""
GENERATION = 20
"""Plans of one generation."""
MOST = 1000
"""Evaluations after which a search that has not reached the solver's loss is given up."""
LONG = ("tpe", "qiea", "genetic", "policy gradient")
"""Samplers that are given so many; the others are given 200, or 5 of two options."""


class Table:
    """Every plan over some units: its loss and its MACs, as arrays of shape (options, ...) a unit an axis.

    Both losses are kept in a file: the KL in nats, and the share of samples that are wrong.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.path = Path(args.runs) / f"search-table-{args.model}-{args.table_units}-{args.images}.npz"
        task = task_of(args, 0)
        self.space = space = find_space(task, ("width",))
        units = space.units[:: max(len(space.units) // args.table_units, 1)][: args.table_units]
        self.names = [unit.name for unit in units]
        self.labels = [offered(unit, 4) for unit in units]
        recipe = cp.Recipe(units=("width",), budget=("macs=70%",))
        inputs, _ = task.calibration(recipe.refit_images)
        moments = collect_moments(task.model, [site.name for site in space.sites], inputs)
        effects = Effects(task.model, space, moments)
        options = sum(space.sizes)
        nothing = cp.Energy(np.zeros((options, options)), np.zeros(options))
        self.macs_cost = macs_cost(space, 0.0)
        problem = Problem(space, nothing, {"size": self.macs_cost, "macs": self.macs_cost})
        data = trial_data(task, recipe, args.images)
        settings = SearchSettings(objectives=("kl",), rungs=1, images=args.images)
        objective = Objective(space, effects, problem, data, settings)
        self.shape = tuple(len(labels) for labels in self.labels)
        original = problem.originals["macs"]
        self.macs = np.array([self._macs(index) for index in np.ndindex(*self.shape)]).reshape(self.shape) / original
        self.losses = self._measured(objective, "errors" if args.loss == "accuracy" else "losses")
        self.solved = self._solve(task, effects, inputs[:])

    def _measured(self, objective: Objective, name: str) -> Any:
        """Losses of all plans, out of the file where it holds them: older files have no "errors"."""
        if self.path.exists():
            with np.load(self.path) as file:
                if name in file:
                    return file[name]
        found = []
        for i, index in enumerate(np.ndindex(*self.shape)):
            values = objective.value(self.choices(index))
            found.append((values["kl"], 1.0 - values["accuracy"]))
            if i % 256 == 0:
                print(f"{i} of {self.macs.size} plans measured", flush=True)
        kl, errors = np.array(found).T.reshape(2, *self.shape)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(self.path, losses=kl, errors=errors)
        return errors if name == "errors" else kl

    def choices(self, index: tuple[int, ...]) -> dict[str, str]:
        """The plan at an index."""
        return {name: labels[i] for name, labels, i in zip(self.names, self.labels, index) if i}

    def _macs(self, index: tuple[int, ...]) -> float:
        chosen = self.choices(index)
        return self.macs_cost.value([unit.index(chosen.get(unit.name, "keep")) for unit in self.space.units])

    def _solve(self, task: cp.Task, effects: Effects, inputs: list[torch.Tensor]) -> tuple[int, ...]:
        """Where the curvature energy's least feasible plan is, by trying all of the table."""
        found = sensitivities(task.model, self.space, effects, [tensor[:512] for tensor in inputs])
        energy = found.energy(self.space, 1.0)
        problem = Problem(self.space, energy, {"macs": self.macs_cost})
        best, least = (0,) * len(self.shape), np.inf
        for index in np.ndindex(*self.shape):
            if self.macs[index] <= self.limit:
                chosen = self.choices(index)
                value = problem.energy_of([u.index(chosen.get(u.name, "keep")) for u in self.space.units])
                best, least = (index, value) if value < least else (best, least)
        return best

    limit = 0.7

    def value(self, index: tuple[int, ...]) -> float:
        """What a search is told."""
        return float(self.losses[index] + OVER * max(self.macs[index] / self.limit - 1.0, 0.0))

    @property
    def best(self) -> float:
        """The least loss within the limit."""
        return float(self.losses[self.macs <= self.limit].min())


def by_policy(table: Table, seed: int, trials: int) -> list[float]:
    """The best value so far after each evaluation of plans that a policy draws and learns from."""
    policy, values = Policy(table.shape, np.random.default_rng(seed)), list[float]()
    while len(values) < trials:
        plans, states = policy.draw(BATCH)
        found = np.array([table.value(tuple(plan)) for plan in plans])
        policy.learn(plans, states, found, 0.5)
        values += found.tolist()
    return list(itertools.accumulate(values[:trials], min))


def by_genes(table: Table, seed: int, trials: int) -> list[float]:
    """The best value so far after each evaluation of plans that a population breeds."""
    population, values = Population(table.shape, np.random.default_rng(seed)), list[float]()
    while len(values) < trials:
        plans = population.draw(min(GENERATION, trials - len(values)))
        found = np.array([table.value(tuple(plan)) for plan in plans])
        population.learn(plans, found)
        values += found.tolist()
    return list(itertools.accumulate(values, min))


def searched(table: Table, name: str, seed: int, trials: int) -> list[float]:
    """The best value so far after each evaluation."""
    if name == "policy gradient":
        return by_policy(table, seed, trials)
    if name == "genetic":
        return by_genes(table, seed, trials)
    study = optuna.create_study(sampler=sampler(name.partition(" ")[0], seed))

    def objective(trial: optuna.Trial) -> float:
        sizes = enumerate(table.shape)
        if name in TWO:
            return table.value(tuple(2 * trial.suggest_categorical(f"u{i}", [0, 1]) for i, _ in sizes))
        return table.value(tuple(trial.suggest_int(f"u{i}", 0, size - 1) for i, size in sizes))

    study.optimize(objective, n_trials=trials)
    return list(itertools.accumulate((trial.value for trial in study.trials), min))


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(seeds=list(range(20)))
    parser.add_argument("--table-units", type=int, default=6)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--loss", choices=("kl", "accuracy"), help="that is searched for; the KL by default")
    parser.add_argument("--runs", default="runs", help="folder that the table of losses is kept in")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    record = Record(args, "sampler", "seed")
    table = Table(args)
    solver = table.value(table.solved)
    for name in SAMPLERS:
        for seed in args.seeds:
            trials = 5 if name in TWO else MOST if name in LONG else 200
            own = [row for row in record.rows if (row["sampler"], row["seed"]) == (name, seed)]
            if any(evaluated(row) >= trials for row in own):
                continue
            best = searched(table, name, seed, trials)
            reached = next((i + 1 for i, value in enumerate(best) if value <= solver), None)
            regrets = {f"regret_{n}": best[n - 1] - table.best for n in (5, 50, 200) if len(best) >= n}
            record.add(
                sampler=name, seed=seed, evaluations=trials, reached=reached, best=table.best, solver=solver, **regrets
            )
    record.show(shown(record.rows, "nats" if args.loss != "accuracy" else "of the error rate"))


def evaluated(row: dict[str, Any]) -> int:
    """Evaluations of a search; older rows do not tell them."""
    known = 5 if row["sampler"] in TWO else MOST if row["sampler"] in ("tpe", "qiea") else 200
    return int(row.get("evaluations", known))


def shown(rows: list[dict[str, Any]], unit: str) -> str:
    """Regret by sampler, in this unit, and what is asked of the comparison."""
    lines = [
        "| sampler | regret at 5 | at 50 | at 200 | evaluations to the solver's loss, median |",
        "|---|" + "---|" * 4,
    ]
    values: dict[str, dict[str, list[float]]] = {}
    for name in SAMPLERS:
        own = [row for row in rows if row["sampler"] == name]
        values[name] = {key: [row[key] for row in own if key in row] for key in ("regret_5", "regret_50", "regret_200")}
        long = bool(own) and all(evaluated(row) >= MOST for row in own)
        needed = float(np.median([row["reached"] or MOST + 1 for row in own])) if own else 0.0
        words = f"{needed:.0f}" if needed <= MOST else f"more than {MOST}"
        cells = [spread(found, 4) for found in values[name].values()]
        lines.append(f"| {name} | {' | '.join(cells)} | {words if long else ''} |")
    lines.append("")
    if values["qiea"]["regret_200"] and values["random"]["regret_200"]:
        test = stats.mannwhitneyu(values["qiea"]["regret_200"], values["random"]["regret_200"], alternative="less")
        lines.append(f"qiea below random at 200: p = {test.pvalue:.2g} (Mann-Whitney, one-sided).")
    if all(values[name]["regret_5"] for name in TWO):
        test = stats.mannwhitneyu(*(values[name]["regret_5"] for name in TWO))
        lines.append(f"legacy against random search of the same options, five evaluations: p = {test.pvalue:.2g}.")
    if rows:
        lines.append(f"The solver's plan: regret {rows[0]['solver'] - rows[0]['best']:.4f} {unit}, no evaluation.")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
