"""A dimod model of binary variables as a Problem: what constraints become, and where the variables lie.

A discrete constraint is a unit with as many options, any other variable a unit of two (0 and 1). A constraint is a
limited cost over the units that it holds, of which products of two may be; an equality of few units forbids the
combinations that break it, any other is two limited costs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import dimod
import numpy as np
from numpy.typing import NDArray

from coldpress.budget import Limits
from coldpress.errors import BudgetError, PlanError
from coldpress.problem import Cost, Energy, Factor, Problem
from coldpress.qubo import unescaped

MOST_VARIABLES = 5_000
MOST_LIMITS = 20
"""Inequalities beyond which those that bar a single combination forbid it; each limit costs memory everywhere."""
MOST_CELLS = 10_000
"""Combinations of the largest table that a constraint becomes."""
_SLACK = 1e-9  # relative: rounding, not a violation
Floats = NDArray[np.float64]
Choice = NDArray[np.int64]
Scope = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Where a model's variables lie among the units of a problem.

    Attributes:
        sizes: options of each unit.
        spots: unit and option of each variable.
        low: value of each variable where its option is not taken; 1 where it is.
    """

    sizes: list[int]
    spots: Mapping[Hashable, tuple[int, int]]
    low: Mapping[Hashable, int]

    def sample(self, choice: Choice) -> dict[Hashable, int]:
        """The variables' values of a choice of options, ``(units,)``."""
        return {v: 1 if choice[unit] == option else self.low[v] for v, (unit, option) in self.spots.items()}


def lay_out(model: dimod.ConstrainedQuadraticModel) -> Layout:
    """Units and options for the model's variables.

    Raises:
        PlanError: there is no variable, there are too many, one is neither binary nor a spin, or discrete constraints
            share one.
    """
    variables = list(model.variables)
    check_size(len(variables))
    for v in variables:
        if model.vartype(v) not in (dimod.BINARY, dimod.SPIN):
            raise PlanError(f"variable {v!r} is {model.vartype(v).name}; binary and spin variables are taken")
    discrete = [list(model.constraints[label].lhs.variables) for label in model.discrete]
    owners: dict[Hashable, Hashable] = {}
    for label, group in zip(model.discrete, discrete):
        for v in group:
            if (other := owners.setdefault(v, label)) != label:
                first, second = (str(unescaped(name)) for name in (other, label))
                raise PlanError(
                    f"discrete constraints {first!r} and {second!r} share the variable {v!r}: make one an equality"
                )
    spots = {v: (u, o) for u, group in enumerate(discrete) for o, v in enumerate(group)}
    free = [v for v in variables if v not in spots]
    spots |= {v: (len(discrete) + i, 1) for i, v in enumerate(free)}
    sizes = [*map(len, discrete), *(2 for _ in free)]
    return Layout(sizes, spots, {v: 0 if model.vartype(v) is dimod.BINARY else -1 for v in variables})


def check_size(variables: int) -> None:
    """Refuse a model of this many variables, where solvers cannot take it.

    Raises:
        PlanError: there are none, or too many.
    """
    if not variables:
        raise PlanError("the model has no variable: there is nothing to solve")
    if variables > MOST_VARIABLES:
        raise PlanError(
            f"the model has {variables:,} variables; solvers take up to {MOST_VARIABLES:,}: give larger ones "
            "without constraints to a sampler"
        )


def problem_of(model: dimod.ConstrainedQuadraticModel, layout: Layout) -> Problem:
    """The model as a problem.

    Raises:
        PlanError: a constraint is soft, or a bias is not finite.
        BudgetError: no values meet a constraint.
    """
    costs, limits, shown = dict[str, Cost](), dict[str, float](), dict[str, tuple[float, float]]()
    forbidden = list[Factor]()
    others = [label for label in model.constraints if label not in model.discrete]
    many = len(others) > MOST_LIMITS
    for label in others:
        name = str(unescaped(label))
        one = _Constraint.of(name, model.constraints[label], layout)
        if (table := one.forbids(layout.sizes, many)) is not None:
            forbidden.append(table)
            continue
        for sign in one.signs:
            key = _free(name, costs)
            costs[key], limits[key], shown[key] = one.limited(key, sign)
    if forbidden:
        key = _free("forbidden", costs)
        costs[key] = Cost(key, tuple(_merged(forbidden)))
    return Problem.from_arrays(
        layout.sizes, _energy(model.objective, layout), costs, Limits(numbers=limits, shown=shown), *_names(layout)
    )


def _free(name: str, taken: Container[str]) -> str:
    """A name that is not taken: two labels may be alike as text, as 1 and "1" are."""
    return next(k for n in itertools.count() if (k := f"{name} ({n + 1})" if n else name) not in taken)


def _names(layout: Layout) -> tuple[list[str], list[list[str]]]:
    groups: list[list[str]] = [[] for _ in layout.sizes]
    free = set[int]()
    for v, (unit, option) in sorted(layout.spots.items(), key=lambda entry: entry[1]):
        if not groups[unit] and option:
            free.add(unit)
        groups[unit].append(str(v))
    names = [" | ".join(group) for group in groups]
    return names, [["keep", "1"] if unit in free else group for unit, group in enumerate(groups)]


@dataclass(frozen=True)
class _Form:
    """A polynomial over options: ``tables`` by the unit, or the two units, that they are of, and a constant.

    Products of two options of one unit are under that unit twice: 0 on plans, but an energy may be convex by them.
    """

    tables: Mapping[Scope, Floats]
    constant: float

    @classmethod
    def of(cls, form: Any, layout: Layout, name: str) -> _Form:
        """A value is ``low + (1 - low) x`` of its option's x."""
        tables = dict[Scope, Floats]()
        constant = float(form.offset)

        def add(scope: Scope, place: Scope, value: float) -> None:
            if scope not in tables:
                tables[scope] = np.zeros([layout.sizes[unit] for unit in scope])
            tables[scope][place] += value

        for v, bias in form.linear.items():
            (unit, option), low = layout.spots[v], layout.low[v]
            add((unit,), (option,), (1 - low) * float(bias))
            constant += low * float(bias)
        for (v, w), bias in form.quadratic.items():
            value, (v, w) = float(bias), sorted((v, w), key=lambda label: layout.spots[label])
            (a, o), (b, p), low, other = layout.spots[v], layout.spots[w], layout.low[v], layout.low[w]
            add((a, b), (o, p), (1 - low) * (1 - other) * value)
            add((a,), (o,), (1 - low) * other * value)
            add((b,), (p,), (1 - other) * low * value)
            constant += low * other * value
        if not (all(np.isfinite(table).all() for table in tables.values()) and np.isfinite(constant)):
            raise PlanError(f"{name} holds a bias that is NaN or infinite; mend what wrote it")
        return cls(tables, constant)


@dataclass(frozen=True)
class _Constraint:
    """``form`` compared with ``rhs``; ``signs``: 1 for at most, -1 for at least, both for an equality."""

    name: str
    form: _Form
    rhs: float
    signs: tuple[float, ...]

    @classmethod
    def of(cls, name: str, constraint: Any, layout: Layout) -> _Constraint:
        if constraint.lhs.is_soft():
            raise PlanError(
                f"constraint {name!r} is soft (weight {constraint.lhs.weight():g}); hard ones are taken: make it hard, "
                "or put its penalty into the objective"
            )
        senses = {dimod.sym.Sense.Le: (1.0,), dimod.sym.Sense.Ge: (-1.0,), dimod.sym.Sense.Eq: (1.0, -1.0)}
        rhs, form = float(constraint.rhs), _Form.of(constraint.lhs, layout, f"constraint {name!r}")
        form = _Form({units: t for units, t in form.tables.items() if len(set(units)) == len(units)}, form.constant)
        if not np.isfinite(rhs):
            raise PlanError(f"constraint {name!r} is compared with {rhs}; give a finite number")
        return cls(name, form, rhs, senses[constraint.sense])

    @property
    def scale(self) -> float:
        return max((float(np.abs(table).max()) for table in self.form.tables.values()), default=1.0) or 1.0

    def forbids(self, sizes: list[int], many: bool) -> Factor | None:
        """The combinations that break it, of a small equality, or where ``many`` are also of what bars just one."""
        scope = tuple(sorted({unit for units in self.form.tables for unit in units}))
        shape = [sizes[unit] for unit in scope]
        if math.prod(shape) > MOST_CELLS or not scope or (len(self.signs) == 1 and not many):
            return None
        total = np.full(shape, self.form.constant)
        for units, table in self.form.tables.items():
            total += table.reshape([sizes[unit] if unit in units else 1 for unit in scope])
        over = [sign * (total - self.rhs) > _SLACK * self.scale * len(scope) for sign in self.signs]
        broken = np.any(over, axis=0)
        if broken.all():
            raise _impossible(self.name)
        return Factor(scope, np.where(broken, np.inf, 0.0)) if len(self.signs) == 2 or broken.sum() == 1 else None

    def limited(self, name: str, sign: float) -> tuple[Cost, float, tuple[float, float]]:
        """As a cost and its limit, both shifted above 0, and how to turn them back: times the first, plus the second.

        Raises:
            BudgetError: no values meet it.
        """
        tables = {units: sign * table for units, table in self.form.tables.items()}
        least, scale = sum(float(table.min()) for table in tables.values()), self.scale
        room = sign * (self.rhs - self.form.constant) - least
        if room < -_SLACK * scale:
            raise _impossible(self.name)
        factors = tuple(Factor(units, table - table.min() + 0.0) for units, table in tables.items() if np.ptp(table))
        back = sign, sign * (least - scale) + self.form.constant
        return Cost(name, factors, scale), room + scale, back


def _impossible(name: str) -> BudgetError:
    return BudgetError(f"constraint {name!r} cannot be met by any values of its variables", proved=True)


def _merged(factors: list[Factor]) -> list[Factor]:
    tables = dict[Scope, Floats]()
    for factor in factors:
        tables[factor.units] = tables.get(factor.units, 0.0) + factor.table
    return [Factor(units, table) for units, table in tables.items()]


def _energy(objective: Any, layout: Layout) -> Energy:
    form = _Form.of(objective, layout, "the objective")
    starts = np.concatenate([[0], np.cumsum(layout.sizes)]).astype(int)
    linear, quadratic = np.zeros(starts[-1]), np.zeros((starts[-1], starts[-1]))
    for units, table in form.tables.items():
        parts = [slice(starts[unit], starts[unit + 1]) for unit in units]
        if len(parts) == 1:
            linear[parts[0]] += table
        else:
            quadratic[parts[0], parts[1]] += table
            quadratic[parts[1], parts[0]] += table.T
    if (linear >= 0.0).all() and linear.any() and max(layout.sizes) > 2:
        # x is x^2. So a file that lost the diagonal, as BQMs do, gives a convex energy again if it was one.
        squares = Energy(quadratic + np.diag(2.0 * linear), np.zeros(len(linear)), form.constant)
        if squares.is_convex:
            return squares
    return Energy(quadratic, linear, form.constant)
