"""A Problem as dimod models: a constrained one, exact, and a penalty QUBO for samplers that know no constraints."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING

import dimod
import numpy as np

from coldpress.errors import BudgetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coldpress.problem import Problem

Term = tuple[str, float]
MOST_VARIABLES = 50_000


def variable(problem: Problem, unit: int, option: int) -> str:
    """Name of the 0/1 variable of an option: ``unit=label``."""
    return f"{problem.names[unit]}={problem.labels[unit][option]}"


def escaped(label: str) -> str:
    """A constraint's label without "/", at which dimod's files of constrained models are cut; see `unescaped`."""
    return label.replace("%", "%25").replace("/", "%2F")


def unescaped(label: Hashable) -> Hashable:
    """What `escaped` was given."""
    return label.replace("%2F", "/").replace("%25", "%") if isinstance(label, str) else label


def objective(problem: Problem) -> dimod.BinaryQuadraticModel:
    """The energy over one variable per option; equal to `Problem.energy_of` wherever each unit has one option."""
    energy = problem.energy
    names = [variable(problem, u, o) for u, size in enumerate(problem.sizes) for o in range(size)]
    linear = energy.linear + 0.5 * np.diag(energy.quadratic)
    model = dimod.BinaryQuadraticModel(dict(zip(names, linear)), {}, energy.constant, "BINARY")
    rows, columns = np.nonzero(np.triu(energy.quadratic, 1))
    model.add_quadratic_from((names[i], names[j], energy.quadratic[i, j]) for i, j in zip(rows, columns))
    return model


def constrained_model(problem: Problem) -> dimod.ConstrainedQuadraticModel:
    """The problem as a dimod CQM.

    One binary variable per option, a discrete (one-hot) constraint per unit, the limits in shares of each. What depends
    on two units enters as a product; on more, through a variable per joint configuration, of which one is taken, tied
    to its options. Labels of constraints are `escaped`.
    """
    model = dimod.ConstrainedQuadraticModel()
    model.set_objective(objective(problem))
    for u, size in enumerate(problem.sizes):
        model.add_discrete([variable(problem, u, o) for o in range(size)], label=escaped(f"one of {problem.names[u]}"))
    joint: dict[tuple[tuple[int, ...], tuple[int, ...]], str] = {}
    forbidden = set[tuple[str, ...]]()
    for name, cost in problem.costs.items():
        limit = problem.limits.get(name)
        total = dimod.QuadraticModel()
        for factor in cost.factors:
            _forbid(problem, model, forbidden, factor.units, factor.table)
            if limit is not None:
                _add_factor(problem, model, total, joint, factor.units, factor.table / limit)
        if limit is not None:
            label = escaped(f"limit of {name}")
            model.add_constraint(total, "<=", 1.0 - cost.constant / limit, label=label)
    return model


def _forbid(
    problem: Problem,
    model: dimod.ConstrainedQuadraticModel,
    known: set[tuple[str, ...]],
    units: tuple[int, ...],
    table: NDArray[np.float64],
) -> None:
    """Forbid what a table does, but for what is ``known``: several costs may forbid the same."""
    for index in np.argwhere(np.isinf(table)):
        names = tuple(variable(problem, u, int(o)) for u, o in sorted(zip(units, index)))
        if names in known:
            continue
        known.add(names)
        terms = [*((name, 1.0) for name in names), (1.0 - len(names),)]
        model.add_constraint_from_iterable(terms, "<=", label=escaped(f"forbidden: {' '.join(names)}"))


def _add_factor(
    problem: Problem,
    model: dimod.ConstrainedQuadraticModel,
    total: dimod.QuadraticModel,
    joint: dict[tuple[tuple[int, ...], tuple[int, ...]], str],
    units: tuple[int, ...],
    table: NDArray[np.float64],
) -> None:
    """Add one factor's cost to ``total``, with joint variables where it depends on more than two units."""
    cells = [(tuple(int(o) for o in index), float(table[tuple(index)])) for index in np.argwhere(np.isfinite(table))]
    for options, weight in cells:
        names = [variable(problem, u, o) for u, o in zip(units, options)]
        for name in names:
            total.add_variable("BINARY", name)
        if len(units) == 0:
            total.offset += weight
        elif len(units) == 1:
            total.add_linear(names[0], weight)
        elif len(units) == 2:
            total.add_quadratic(*names, weight)
    if len(units) <= 2:
        return
    known = any(scope == units for scope, _ in joint)
    for options, weight in cells:
        name = "&".join(variable(problem, u, o) for u, o in zip(units, options))
        if known and (units, options) not in joint:
            continue  # another cost forbids it
        joint[units, options] = name
        total.add_variable("BINARY", name)
        total.add_linear(name, weight)
    if known:
        return
    scope = "+".join(problem.names[u] for u in units)
    model.add_discrete([joint[units, options] for options, _ in cells], label=escaped(f"one case of {scope}"))
    for axis, unit in enumerate(units):
        for option in range(problem.sizes[unit]):
            tied = [dimod.Binary(joint[units, options]) for options, _ in cells if options[axis] == option]
            own = dimod.Binary(variable(problem, unit, option))
            model.add_constraint(
                dimod.quicksum(tied) - own == 0 if tied else own == 0,
                label=escaped(f"{scope} follows {variable(problem, unit, option)}"),
            )


def penalty_model(problem: Problem, penalty: float | None = None) -> dimod.BinaryQuadraticModel:
    """The problem as a QUBO with penalties for one-hot, limits and what is forbidden.

    Limits are in shares (so one penalty suits all) and get binary slack in steps of 1/64 of the limit. Products of
    options, which costs of several units are made of, become variables of their own, tied softly to the options.

    Args:
        problem: what to express.
        penalty: price of a broken one-hot, and of exceeding a limit by a tenth; by default the energy's range.

    Raises:
        BudgetError: it would take more than 50,000 variables.
    """
    model = objective(problem)
    energy = problem.energy
    if penalty is None:
        penalty = float(np.abs(energy.linear).max() + np.abs(energy.quadratic).sum(axis=1).max() / 2) or 1.0
    for u, size in enumerate(problem.sizes):
        terms: list[Term] = [(variable(problem, u, o), 1.0) for o in range(size)]
        model.add_linear_equality_constraint(terms, lagrange_multiplier=penalty, constant=-1.0)
    for name, cost in problem.costs.items():
        limit = problem.limits.get(name)
        total: dict[str, float] = {}
        room = 0.0 if limit is None else 1.0 - cost.constant / limit
        for factor in cost.factors:
            for index in np.argwhere(np.isinf(factor.table)):
                names = [variable(problem, u, int(o)) for u, o in zip(factor.units, index)]
                if len(names) == 2:
                    model.add_quadratic(*names, penalty)
                else:
                    model.add_linear(_product(problem, model, name, names, penalty), penalty)
            if limit is None:
                continue
            for index in np.argwhere(np.isfinite(factor.table) & (factor.table != 0)):
                names = [variable(problem, u, int(o)) for u, o in zip(factor.units, index)]
                weight = float(factor.table[tuple(index)]) / limit
                if names:
                    product = _product(problem, model, name, names, penalty)
                    total[product] = total.get(product, 0.0) + weight
                else:
                    room -= weight
        if limit is not None:
            steps = [min(2**i, 64 - 2**i + 1) / 64 * max(room, 0.0) for i in range(7)]
            slack = [(f"slack of {name} {i}", step) for i, step in enumerate(steps)]
            terms = [*total.items(), *slack]
            model.add_linear_equality_constraint(terms, lagrange_multiplier=100.0 * penalty, constant=-room)
    return model


def _product(problem: Problem, model: dimod.BinaryQuadraticModel, cost: str, names: list[str], penalty: float) -> str:
    """A variable equal to the product of some, two at a time, each held there by the penalty of Rosenberg (1975)."""
    a, *others = names
    for b in others:
        product = f"{a}&{b}"
        if product not in model.variables:
            if len(model.variables) >= MOST_VARIABLES:
                raise BudgetError(
                    f"as a QUBO, cost {cost!r} of {len(problem.names)} units takes more than {MOST_VARIABLES:,} "
                    "variables: limit a simpler cost, narrow the units, or use Problem.to_cqm()"
                )
            model.add_linear(product, 3.0 * penalty)
            model.add_quadratic(a, b, penalty)
            model.add_quadratic(a, product, -2.0 * penalty)
            model.add_quadratic(b, product, -2.0 * penalty)
        a = product
    return a
