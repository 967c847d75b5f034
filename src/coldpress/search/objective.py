"""What a trial of a search is worth: a plan is suggested, priced by the cost model, and run on data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import optuna
from torch import Tensor
from torch.nn import functional as F

from coldpress.energy.correlation import without_dead_choices
from coldpress.errors import SearchError
from coldpress.network import evaluating, forwarding, logits_of
from coldpress.plan import KEEP, Space, Unit
from coldpress.problem import Problem
from coldpress.search.samplers import sampler
from coldpress.surgery.effects import Effects

DIRECTIONS = {
    "fitness": "minimize",
    "accuracy": "maximize",
    "kl": "minimize",
    "latency": "minimize",
    "size": "minimize",
    "macs": "minimize",
}
ALIASES = {"bytes": "size"}
ORDERED = ("width", "vocabulary")
"""Kinds of unit whose options have an order; a sampler is given their position."""
BATCH = 64
MOST_LOGITS = 2**26
"""Numbers (of 4 bytes) that a batch's logits may have, and all of the original's that are kept."""


@dataclass(frozen=True)
class SearchSettings:
    """How a search is run.

    Attributes:
        sampler: a name of `coldpress.search.samplers.SAMPLERS`, or a dotted path to a class.
        objectives: one or more of fitness, accuracy, kl (nats), latency (seconds), size (also called bytes), macs.
        weights: of error rate, latency and size in the fitness, which is lower where it is better.
        norms: milliseconds and megabytes that latency and size are divided by in the fitness.
        images: samples of train that a trial is judged on.
        rungs: parts that they come in; after each a trial within the limits that falls behind others within them may
            be pruned (one objective only).
        options: how many options each unit is offered, see `offered`; 0 offers all, and legacy always two.
        seed: of the sampler.
    """

    sampler: str = "qiea"
    objectives: tuple[str, ...] = ("fitness",)
    weights: tuple[float, float, float] = (0.7, 0.2, 0.1)
    norms: tuple[float, float] = (200.0, 300.0)
    images: int = 512
    rungs: int = 4
    options: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("objectives", "weights", "norms"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "objectives", tuple(ALIASES.get(name, name) for name in self.objectives))
        unknown = sorted(set(self.objectives) - set(DIRECTIONS))
        allowed = {
            "objectives": (bool(self.objectives) and not unknown, f"some of {', '.join(DIRECTIONS)}"),
            "weights": (len(self.weights) == 3 and min(self.weights) >= 0 < max(self.weights), "three, 0 or more"),
            "norms": (len(self.norms) == 2 and min(self.norms) > 0, "milliseconds and megabytes, above 0"),
            "images": (self.images >= 8, "8 or more"),
            "rungs": (self.rungs >= 1, "1 or more"),
            "options": (self.options == 0 or self.options >= 2, "2 or more, or 0 for all"),
            "seed": (self.seed >= 0, "0 or more"),
        }
        for name, (fine, what) in allowed.items():
            if not fine:
                raise SearchError(f"{name} is {getattr(self, name)!r}; allowed: {what}")
        sampler(self.sampler, self.seed)  # before time is spent, and a study takes up its name
        if self.sampler == "legacy":
            if len(self.objectives) > 1:
                raise SearchError(
                    f"the sampler legacy knows one objective, not {', '.join(self.objectives)}: choose one, fitness "
                    "say, or another sampler"
                )
            object.__setattr__(self, "options", 2)  # the published rule knows two intensities

    @property
    def directions(self) -> list[str]:
        """Minimize or maximize, for each objective."""
        return [DIRECTIONS[name] for name in self.objectives]

    @property
    def costs(self) -> tuple[str, ...]:
        """The costs that the objectives speak of: latency, size, macs."""
        weights = zip(("latency", "size"), self.weights[1:])
        weighed = [name for name, weight in weights if weight > 0] if "fitness" in self.objectives else []
        return tuple(name for name in ("latency", "size", "macs") if name in (*self.objectives, *weighed))

    @property
    def needs_latency(self) -> bool:
        """Whether latency decides: as an objective, in the fitness, or in the choice from a front, by the fitness."""
        return "latency" in self.costs or (len(self.objectives) > 1 and self.weights[1] > 0)

    @property
    def pruned(self) -> bool:
        """Whether trials that fall behind are stopped early."""
        return len(self.objectives) == 1 and self.rungs > 1 and self.sampler != "legacy"

    def fitness(self, accuracy: float, seconds: float, size: float) -> float:
        """The weighted sum of error rate, latency over its norm and size over its norm: lower is better.

        With the default weights and norms it is that of "Quantum-Inspired Compression and Distillation of Large
        Language Models for Edge Intelligence".

        >>> round(SearchSettings().fitness(0.9, 0.1, 150e6), 4)
        0.22
        """
        harm, slow, large = self.weights
        return harm * (1.0 - accuracy) + slow * seconds * 1e3 / self.norms[0] + large * size / 1e6 / self.norms[1]


class Objective:
    """The value of a trial, from its plan's predicted costs and its outputs on data; nothing in it is timed.

    A plan is run at full size, each layer computing what surgery would leave it to (`Effects`), before the sequential
    re-fit. An option that the costs forbid beside the others (it would gain nothing) is left out of the plan.

    Args:
        space: what is decided.
        effects: what options do to the layers.
        problem: the costs and the limits; a limit is a constraint of the trial.
        data: inputs, each ``(images, ...)``, and labels ``(images,)``, in the order in which they are shown.
        settings: how the search is run.

    Raises:
        SearchError: the problem is of other units, or lacks a cost that an objective counts.
    """

    def __init__(
        self,
        space: Space,
        effects: Effects,
        problem: Problem,
        data: tuple[Sequence[Tensor], Tensor],
        settings: SearchSettings,
    ) -> None:
        if problem.labels != tuple(tuple(option.label for option in unit.options) for unit in space.units):
            raise SearchError("the units of this model are not those that the study was started with")
        if settings.needs_latency and "latency" not in problem.costs:
            raise SearchError(
                f"{' and '.join(settings.objectives)} would leave latency out, which was not measured for this study: "
                "give the problem a cost of latency, or latency no weight in --fitness"
            )
        self.space, self.effects, self.problem, self.settings = space, effects, problem, settings
        self.inputs, self.labels = list(data[0]), data[1]
        self.labels_of = {unit.name: offered(unit, settings.options) for unit in space.units}
        with evaluating(effects.model):
            each = logits_of(effects.model(*[tensor[:1] for tensor in self.inputs])).numel()
            self.batch = max(min(BATCH, MOST_LOGITS // each), 1)
            keeps = each * len(self.labels) <= MOST_LOGITS
            self.original = [self._logits(start) for start in self._starts()] if keeps else None

    def __call__(self, trial: optuna.Trial) -> tuple[float, ...]:
        """The objectives' values.

        Raises:
            optuna.TrialPruned: it is within the limits and falls behind others that are.
        """
        choices = self.allowed(self.suggest(trial))
        costs = self.problem.costs_of(self.space.indices(choices))
        trial.set_user_attr("choices", choices)
        trial.set_user_attr("costs", costs)
        over = {quantity: costs[quantity] / limit - 1.0 for quantity, limit in self.problem.limits.items()}
        for quantity, share in over.items():
            trial.set_constraint(quantity, share)
        # plans beyond a limit lose less: no trial within the limits is to be held against them
        compared = self.settings.pruned and all(share <= 0.0 for share in over.values())
        found: dict[str, float] = {}
        for seen, found in self.values(choices):
            if compared and seen < len(self.labels):
                trial.report(found[self.settings.objectives[0]], seen)
                if trial.should_prune():
                    raise optuna.TrialPruned
        trial.set_user_attr("accuracy", found["accuracy"])
        trial.set_user_attr("kl", found["kl"])
        return tuple(found[name] for name in self.settings.objectives)

    def suggest(self, trial: optuna.Trial) -> dict[str, str]:
        """An option for every unit; those that keep are left out."""
        chosen: dict[str, str] = {}
        for unit in self.space.units:
            labels = self.labels_of[unit.name]
            if unit.kind in ORDERED and self.settings.sampler != "legacy":
                label = labels[trial.suggest_int(unit.name, 0, len(labels) - 1)]
            else:
                label = trial.suggest_categorical(unit.name, labels)
            if label != KEEP:
                chosen[unit.name] = label
        return without_dead_choices(self.space, chosen)

    def params(self, choices: Mapping[str, str]) -> dict[str, int | str]:
        """The parameters of the trial that suggests these choices.

        Raises:
            SearchError: they are not on offer.
        """
        found: dict[str, int | str] = {}
        for unit in self.space.units:
            labels, label = self.labels_of[unit.name], choices.get(unit.name, KEEP)
            if label not in labels:
                raise SearchError(f"{unit.name} is offered {', '.join(labels)} in this search, not {label}")
            ordered = unit.kind in ORDERED and self.settings.sampler != "legacy"
            found[unit.name] = labels.index(label) if ordered else label
        return found

    def allowed(self, choices: Mapping[str, str]) -> dict[str, str]:
        """The choices without those that a cost forbids: a rank or int8 that gains nothing here, then widths."""
        chosen, order = dict(choices), ("rank", "bits", "depth", "width", "vocabulary")
        while True:
            index = self.space.indices(chosen)
            broken = [factor for cost in self.problem.costs.values() for factor in cost.forbidden(index)]
            if not broken:
                return chosen
            units = [self.space.units[u] for u in broken[0].units if self.space.units[u].name in chosen]
            if not units:
                raise SearchError("the costs forbid leaving the network as it is")
            chosen.pop(min(units, key=lambda unit: order.index(unit.kind)).name)

    def value(self, choices: Mapping[str, str]) -> dict[str, float]:
        """Everything of a plan that can be an objective, on all samples."""
        *_, (_, found) = self.values(choices)
        return found

    def values(self, choices: Mapping[str, str]) -> Iterator[tuple[int, dict[str, float]]]:
        """After each rung: how many samples were seen, and what can be an objective, on them (kl in nats).

        The fitness is NaN where latency counts in it and is not known.
        """
        costs = self.problem.costs_of(self.space.indices(choices))
        latency = costs.get("latency", math.nan if self.settings.weights[1] else 0.0)
        for seen, accuracy, kl in self._run(choices):
            fitness = self.settings.fitness(accuracy, latency, costs["size"])
            yield seen, {**costs, "accuracy": accuracy, "kl": kl, "fitness": fitness}

    def _run(self, choices: Mapping[str, str]) -> Iterator[tuple[int, float, float]]:
        right, kl, rung = 0.0, 0.0, math.ceil(len(self.labels) / self.settings.rungs)
        model, replaced = self.effects.model, self.effects.replacements(choices)
        with evaluating(model):
            for i, start in enumerate(self._starts()):
                original = self._logits(start) if self.original is None else self.original[i]
                with forwarding(model, replaced):
                    logits = self._logits(start)
                labels = self.labels[start : start + self.batch]
                share = len(labels) / len(logits)  # of a sample in a row
                right += share * int((logits.argmax(1) == labels.reshape(-1)).sum())
                wanted, given = (F.log_softmax(t.float(), dim=1) for t in (original, logits))
                kl += share * float(F.kl_div(given, wanted, reduction="sum", log_target=True))
                seen = min(start + self.batch, len(self.labels))
                if seen // rung > start // rung or seen == len(self.labels):
                    yield seen, right / seen, kl / seen

    def _starts(self) -> range:
        return range(0, len(self.labels), self.batch)

    def _logits(self, start: int) -> Tensor:
        return logits_of(self.effects.model(*[tensor[start : start + self.batch] for tensor in self.inputs]))


def offered(unit: Unit, count: int) -> list[str]:
    """Labels of a unit's options: all, or ``count`` of them, the first and evenly spaced others.

    With two it is the first and the middle one.
    """
    labels = [option.label for option in unit.options]
    if not 0 < count < len(labels):
        return labels
    if count == 2:
        return [labels[0], labels[len(labels) // 2]]
    return [labels[round(i * (len(labels) - 1) / (count - 1))] for i in range(count)]
