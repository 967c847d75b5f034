"""The problem that solvers solve: least energy, one option per unit, inside the budget. Arrays and names only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldpress.budget import Budget, Limits
from coldpress.elimination import minimise_sum
from coldpress.errors import BudgetError, PlanError
from coldpress.plan import KEEP, Option, Plan, Space, Unit
from coldpress.terms import Cost, Energy, Factor

if TYPE_CHECKING:
    import dimod

__all__ = ["Cost", "Energy", "Factor", "Problem"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Problem:
    """Minimise the energy with one option per unit, within the budget.

    Args:
        space: the units and their options; option 0 leaves a unit as it is.
        energy: predicted harm, over the options of all units in order.
        costs: by quantity: "latency" (seconds), "size" (bytes), "macs".
        budget: limits; percentages are of the cost of leaving everything as it is.

    Raises:
        BudgetError: the budget names a quantity that has no cost.
        PlanError: energy or factors do not fit the space.
    """

    space: Space
    energy: Energy
    costs: Mapping[str, Cost]
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        sizes = self.sizes
        if self.energy.linear.shape[0] != sum(sizes):
            raise PlanError(f"the energy has {self.energy.linear.shape[0]} options, the space {sum(sizes)}")
        for name, cost in self.costs.items():
            for factor in cost.factors:
                fits = all(0 <= unit < len(sizes) for unit in factor.units)
                if not fits or factor.table.shape != tuple(sizes[unit] for unit in factor.units):
                    raise PlanError(f"cost {name!r}: table {factor.table.shape} does not fit units {factor.units}")
        for quantity in self.budget.given():
            if quantity not in self.costs:
                known = ", ".join(self.costs) or "none"
                raise BudgetError(f"the budget limits {quantity}, which has no cost here (there are: {known})")

    @classmethod
    def from_arrays(
        cls,
        sizes: Sequence[int],
        energy: Energy,
        costs: Mapping[str, Cost] | None = None,
        limits: Mapping[str, float | str] | Budget | None = None,
        names: Sequence[str] | None = None,
        labels: Sequence[Sequence[str]] | None = None,
    ) -> Problem:
        """A problem without a model: units of ``sizes`` options, named and labelled if wished."""
        names = names or [f"u{i}" for i in range(len(sizes))]
        labels = labels or [[KEEP, *(str(o) for o in range(1, size))] for size in sizes]
        units = tuple(
            Unit(name, "width", name, tuple(Option(label) for label in texts)) for name, texts in zip(names, labels)
        )
        budget = limits if isinstance(limits, Budget) else Budget(**dict(limits or {}))
        return cls(Space(units, ()), energy, dict(costs or {}), budget)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Number of options of each unit."""
        return self.space.sizes

    @cached_property
    def offsets(self) -> Ints:
        """First option of each unit in the energy's vector, and their total: shape ``(units + 1,)``."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the units."""
        return tuple(unit.name for unit in self.space.units)

    @property
    def labels(self) -> tuple[tuple[str, ...], ...]:
        """Labels of every unit's options."""
        return tuple(tuple(option.label for option in unit.options) for unit in self.space.units)

    @cached_property
    def originals(self) -> dict[str, float]:
        """The costs of leaving everything as it is."""
        return self.costs_of(np.zeros(len(self.sizes), dtype=np.int64))

    @cached_property
    def limits(self) -> dict[str, float]:
        """The budget in absolute numbers."""
        return self.budget.resolve(self.originals)

    def vector(self, choice: ArrayLike) -> Floats:
        """The 0/1 vector over all options of ``choice`` (option indices, shape ``(units,)``)."""
        x = np.zeros(int(self.offsets[-1]))
        x[self.offsets[:-1] + np.asarray(choice, dtype=np.int64)] = 1.0
        return x

    def energy_of(self, choice: ArrayLike) -> float:
        """Energy of ``choice`` (option indices, shape ``(units,)``)."""
        index = self.offsets[:-1] + np.asarray(choice, dtype=np.int64)
        energy = self.energy
        return float(energy.constant + energy.linear[index].sum() + 0.5 * energy.quadratic[np.ix_(index, index)].sum())

    def costs_of(self, choice: ArrayLike) -> dict[str, float]:
        """Every cost of ``choice`` (option indices, shape ``(units,)``)."""
        return {name: cost.value(choice) for name, cost in self.costs.items()}

    def allowed(self, choice: ArrayLike) -> bool:
        """Whether no cost forbids a combination in ``choice``; limits are not looked at."""
        return all(np.isfinite(value) for value in self.costs_of(choice).values())

    def feasible(self, choice: ArrayLike) -> bool:
        """Whether ``choice`` meets every limit and no combination in it is forbidden by any cost."""
        costs = self.costs_of(choice)
        slack = 1.0 + 1e-9
        return all(np.isfinite(v) and v <= self.limits.get(name, np.inf) * slack for name, v in costs.items())

    def smallest(self, quantity: str) -> tuple[float, float]:
        """The smallest value that a cost can take: a valid lower bound, and the best found (+inf: none)."""
        cost = self.costs[quantity]
        tables = [(f.units, f.table) for f in cost.factors]
        for other in self.costs.values():
            if other is not cost:
                tables += [(f.units, barrier) for f in other.factors if (barrier := _barrier(f.table)).any()]
        bound, choice = minimise_sum(self.sizes, tables)
        found = self.costs_of(choice)
        best = found[quantity] if all(np.isfinite(v) for v in found.values()) else np.inf
        return bound + cost.constant, best

    def plan(self, choice: ArrayLike) -> Plan:
        """The plan of ``choice``: units that keep are left out."""
        chosen = [(u, int(o)) for u, o in enumerate(np.asarray(choice)) if o]
        return Plan({self.names[u]: self.labels[u][o] for u, o in chosen})

    def choice(self, plan: Plan) -> Ints:
        """Option indices of ``plan``, shape ``(units,)``. Raises PlanError on an unknown label."""
        return np.array(self.space.indices(plan.choices), dtype=np.int64)

    def to_cqm(self) -> dimod.ConstrainedQuadraticModel:
        """This problem as a dimod constrained model; see `coldpress.qubo.constrained_model`."""
        from coldpress.qubo import constrained_model

        return constrained_model(self)

    def to_bqm(self, penalty: float | None = None) -> dimod.BinaryQuadraticModel:
        """This problem as a penalty QUBO; see `coldpress.qubo.penalty_model`."""
        from coldpress.qubo import penalty_model

        return penalty_model(self, penalty)

    def to_json(self) -> str:
        """The arrays, names and limits as JSON; ``Problem.from_json`` reads them back (without the layers)."""
        costs = {
            name: {
                "constant": cost.constant,
                "factors": [
                    {"units": f.units, "table": _finite(f.table), "shape": f.table.shape} for f in cost.factors
                ],
            }
            for name, cost in self.costs.items()
        }
        energy = {
            "quadratic": self.energy.quadratic.tolist(),
            "linear": self.energy.linear.tolist(),
            "constant": self.energy.constant,
        }
        head = {"coldpress_problem": 1, "names": self.names, "labels": self.labels, "budget": self.budget.given()}
        if isinstance(self.budget, Limits):
            head["shown"] = dict(self.budget.shown)
        return json.dumps({**head, "energy": energy, "costs": costs})

    @classmethod
    def from_json(cls, text: str) -> Problem:
        """Read a problem. Raises PlanError when the text is not one."""
        try:
            data = json.loads(text)
            if data["coldpress_problem"] != 1:
                raise PlanError(f"problem format {data['coldpress_problem']!r} is unknown; this version reads format 1")
            parts = data["energy"]
            energy = Energy(np.array(parts["quadratic"]), np.array(parts["linear"]), float(parts["constant"]))
            costs = {name: _read_cost(name, entry) for name, entry in data["costs"].items()}
            labels = data["labels"]
            sizes = [len(texts) for texts in labels]
            limits = data["budget"]
            if "shown" in data:
                shown = {name: (float(sign), float(shift)) for name, (sign, shift) in data["shown"].items()}
                limits = Limits(numbers={name: float(value) for name, value in limits.items()}, shown=shown)
            return cls.from_arrays(sizes, energy, costs, limits, data["names"], labels)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise PlanError(f"this is not a coldpress problem: {error!r}") from error


def _barrier(table: Floats) -> Floats:
    """+inf where forbidden, else 0."""
    return np.where(np.isinf(table), np.inf, 0.0)


def _finite(table: Floats) -> list[float | None]:
    """Flat list with None for forbidden entries: JSON has no infinity."""
    return [None if np.isinf(value) else float(value) for value in table.ravel()]


def _read_cost(name: str, entry: Mapping[str, Any]) -> Cost:
    factors = []
    for item in entry["factors"]:
        flat = np.array([np.inf if value is None else value for value in item["table"]], dtype=np.float64)
        factors.append(Factor(tuple(item["units"]), flat.reshape(item["shape"])))
    return Cost(name, tuple(factors), entry["constant"])
