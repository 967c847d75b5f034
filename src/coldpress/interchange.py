"""Problems in files: our own JSON, dimod's BQM and CQM files, dimod's JSON, and COO text; also such as others wrote.

A model of binary variables becomes a Problem: a discrete constraint is a unit with as many options, any other variable
a unit of two (0 and 1), an inequality between sums a limited cost.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dimod
import numpy as np
from dimod.serialization import coo, fileview
from numpy.typing import NDArray

from coldpress.budget import Limits
from coldpress.errors import BudgetError, PlanError
from coldpress.files import write_text
from coldpress.problem import Cost, Energy, Factor, Problem

MOST_VARIABLES = 5_000
TOLERANCE = 1e-6
Choice = NDArray[np.int64]
Sample = dict[Hashable, int]


@dataclass(frozen=True)
class Read:
    """A problem out of a file.

    Attributes:
        problem: to be solved.
        kind: "coldpress", "bqm" or "cqm".
        sample: of a choice of options, the values of the file's own variables; None for our own problems.
        energy: of such a sample, by the model that was read.
        feasible: whether such a sample keeps all constraints of the model that was read.
        model: of a BQM, as it was read: what samplers take.
    """

    problem: Problem
    kind: str
    sample: Callable[[Choice], Sample] | None = None
    energy: Callable[[Sample], float] | None = None
    feasible: Callable[[Sample], bool] | None = None
    model: dimod.BinaryQuadraticModel | None = None


def read(path: Path) -> Read:
    """Read a problem, whoever wrote it.

    Raises:
        PlanError: the file is missing or in no form that is known, is damaged, holds biases that are not finite, or a
            constraint or a variable that cannot be taken (which is named).
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error}") from error
    try:
        if raw[:5] == b"DIMOD":
            with path.open("rb") as file:
                model = fileview.load(file)
        else:
            text = raw.decode()
            if text.lstrip().startswith("{"):
                data = json.loads(text)
                if "coldpress_problem" in data:
                    return Read(Problem.from_json(text), "coldpress")
                model = dimod.BinaryQuadraticModel.from_serializable(data)
            else:
                vartype = None if "vartype" in text.partition("\n")[0] else dimod.BINARY
                model = coo.loads(text, vartype=vartype)
    except PlanError:
        raise
    except Exception as error:  # dimod's readers raise errors of many kinds on damaged files
        raise PlanError(
            f"{path} is no problem that can be read ({error}): give coldpress' or dimod's JSON, a file of dimod's "
            "to_file (BQM or CQM), or COO text"
        ) from error
    if isinstance(model, dimod.ConstrainedQuadraticModel):
        return of_cqm(model)
    if isinstance(model, dimod.BinaryQuadraticModel):
        return of_bqm(model)
    raise PlanError(f"{path} holds a {type(model).__name__}; a BQM or a CQM can be solved")


def of_bqm(model: dimod.BinaryQuadraticModel) -> Read:
    """A binary quadratic model as a problem without limits."""
    constrained = dimod.ConstrainedQuadraticModel()
    constrained.set_objective(model)
    found = of_cqm(constrained)
    return Read(
        found.problem, "bqm", found.sample, lambda sample: float(model.energy(sample)), lambda sample: True, model
    )


def of_cqm(model: dimod.ConstrainedQuadraticModel) -> Read:
    """A constrained model of binary variables as a problem; see the module's words for how.

    Raises:
        PlanError: a variable is not binary, a constraint is neither discrete nor a linear inequality, or a bias is not
            finite.
    """
    variables = list(model.variables)
    if not variables:
        raise PlanError("the model has no variable: there is nothing to solve")
    if len(variables) > MOST_VARIABLES:
        raise PlanError(
            f"the model has {len(variables):,} variables; up to {MOST_VARIABLES:,} are taken here: give larger ones "
            "without constraints to a sampler"
        )
    low = {v: 0.0 if model.vartype(v) is dimod.BINARY else -1.0 for v in variables}
    for v in variables:
        if model.vartype(v) not in (dimod.BINARY, dimod.SPIN):
            raise PlanError(f"variable {v!r} is {model.vartype(v).name}; binary and spin variables are taken")
    discrete = [list(model.constraints[label].lhs.variables) for label in model.discrete]
    single = {v for group in discrete for v in group}
    units = [*discrete, *([v] for v in variables if v not in single)]
    sizes = [len(unit) if unit[0] in single else 2 for unit in units]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    place = {v: int(offsets[u]) + (o if v in single else 1) for u, unit in enumerate(units) for o, v in enumerate(unit)}
    linear, quadratic, constant = _polynomial(model.objective, place, low, int(offsets[-1]))
    costs, limits = {}, {}
    for label, constraint in model.constraints.items():
        if label in model.discrete:
            continue
        if not constraint.lhs.is_linear() or constraint.sense is dimod.sym.Sense.Eq:
            kind = "an equality" if constraint.lhs.is_linear() else "quadratic"
            raise PlanError(f"constraint {label!r} is {kind}; discrete ones and linear inequalities are taken")
        sign = 1.0 if constraint.sense is dimod.sym.Sense.Le else -1.0
        row, _, fixed = _polynomial(constraint.lhs, place, low, int(offsets[-1]))
        parts = [sign * row[a:b] for a, b in itertools.pairwise(offsets)]
        room = sign * (float(constraint.rhs) - fixed) - sum(float(part.min()) for part in parts)
        scale = max((float(np.abs(part).max()) for part in parts), default=1.0) or 1.0
        if room < -1e-9 * scale:
            raise BudgetError(f"constraint {label!r} cannot be met by any values of its variables")
        factors = tuple(Factor((u,), part - part.min() + 0.0) for u, part in enumerate(parts) if np.ptp(part))
        costs[str(label)], limits[str(label)] = Cost(str(label), factors, scale), room + scale
    names = [str(unit[0]) if unit[0] not in single else " | ".join(map(str, unit)) for unit in units]
    labels = [[str(v) for v in unit] if unit[0] in single else ["keep", "1"] for unit in units]
    energy = Energy(quadratic, linear, constant)
    problem = Problem.from_arrays(sizes, energy, costs, Limits(numbers=limits), names, labels)

    def sample(choice: Choice) -> Sample:
        ones = {int(offsets[u]) + int(o) for u, o in enumerate(choice)}
        return {v: 1 if place[v] in ones else int(low[v]) for v in variables}

    return Read(
        problem,
        "cqm",
        sample,
        lambda values: float(model.objective.energy(values)),
        lambda values: bool(model.check_feasible(values, atol=TOLERANCE)),
    )


def _polynomial(
    form: Any, place: Mapping[Hashable, int], low: Mapping[Hashable, float], size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Linear and quadratic part over options, and the constant; a spin s is 2 x - 1 of its option's x."""
    linear, quadratic, constant = np.zeros(size), np.zeros((size, size)), float(form.offset)
    step = {v: 1.0 - value for v, value in low.items()}
    for v, bias in form.linear.items():
        linear[place[v]] += step[v] * float(bias)
        constant += low[v] * float(bias)
    for (u, v), bias in form.quadratic.items():
        value = float(bias)
        quadratic[place[u], place[v]] += step[u] * step[v] * value
        quadratic[place[v], place[u]] += step[u] * step[v] * value
        linear[place[u]] += step[u] * low[v] * value
        linear[place[v]] += step[v] * low[u] * value
        constant += low[u] * low[v] * value
    if not (np.isfinite(linear).all() and np.isfinite(quadratic).all() and np.isfinite(constant)):
        raise PlanError("the model holds a bias that is NaN or infinite; mend what wrote it")
    return linear, quadratic, constant


def write(problem: Problem, path: Path) -> None:
    """Write a problem in the form that the file's ending names: .json (ours), .cqm, .bqm (with penalties) or .coo.

    Raises:
        PlanError: another ending.
        BudgetError: as a QUBO it would be too large.
    """
    if path.suffix == ".json":
        write_text(path, problem.to_json())
    elif path.suffix == ".coo":
        model, _ = problem.to_bqm().relabel_variables_as_integers(inplace=False)
        write_text(path, coo.dumps(model, vartype_header=True))
    elif path.suffix in (".bqm", ".cqm"):
        made = problem.to_bqm() if path.suffix == ".bqm" else problem.to_cqm()
        beside = path.with_name(path.name + ".partial")
        beside.write_bytes(made.to_file().read())
        beside.replace(path)
    else:
        raise PlanError(f"{path} ends in {path.suffix or 'nothing'}; end it in .json, .cqm, .bqm or .coo")
