"""Problems in files: our own JSON, dimod's BQM and CQM files, dimod's JSON, and COO text; also such as others wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import dimod
import numpy as np
from dimod.serialization import fileview
from numpy.typing import NDArray

from coldpress.errors import PlanError, SamplerError
from coldpress.files import write_text
from coldpress.interchange import coo
from coldpress.interchange.constrained import check_size, lay_out, problem_of
from coldpress.problem import Problem
from coldpress.samplers import _model as arrays

TOLERANCE = 1e-6
Choice = NDArray[np.int64]
Sample = dict[Hashable, int]


@dataclass(frozen=True, eq=False)
class Read:
    """A problem out of a file.

    Attributes:
        make: makes the problem, which of a large BQM takes more memory than the model itself.
        kind: "coldpress", "bqm" or "cqm".
        sample: of a choice of options, the values of the file's own variables; None for our own problems.
        energy: of such a sample, by the model that was read.
        feasible: whether such a sample keeps all constraints of the model that was read.
        model: of a BQM, as it was read: what samplers take.
    """

    make: Callable[[], Problem]
    kind: str
    sample: Callable[[Choice], Sample] | None = None
    energy: Callable[[Sample], float] | None = None
    feasible: Callable[[Sample], bool] | None = None
    model: dimod.BinaryQuadraticModel | None = None

    @cached_property
    def problem(self) -> Problem:
        """To be solved; made at first use.

        Raises:
            PlanError: a BQM has more variables than solvers take.
        """
        return self.make()

    @property
    def size(self) -> int:
        """Units, or variables of a BQM."""
        return len(self.problem.sizes) if self.model is None else len(self.model.variables)


def read(path: Path, vartype: str | None = None) -> Read:
    """Read a problem, whoever wrote it.

    Args:
        path: the file.
        vartype: "BINARY" or "SPIN", of COO text that does not say it.

    Raises:
        PlanError: the file is missing or in no form that is known, is damaged, holds biases that are not finite, or a
            constraint or a variable that cannot be taken (which is named).
        BudgetError: no values meet a constraint.
    """
    if vartype is not None and vartype not in coo.VARTYPES:
        raise PlanError(f"vartype is {vartype!r}; give {' or '.join(coo.VARTYPES)}")
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
                    problem = Problem.from_json(text)
                    return Read(lambda: problem, "coldpress")
                model = dimod.BinaryQuadraticModel.from_serializable(data)
            else:
                model = coo.loads(text, vartype)
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
    """A binary quadratic model as a problem without limits.

    Raises:
        PlanError: there is no variable, or a bias is not a finite real number (which is named).
    """
    if not len(model.variables):
        raise PlanError("the model has no variable: there is nothing to solve")
    try:
        arrays.read(model)
    except SamplerError as error:
        raise PlanError(f"the model cannot be solved: {error}") from error
    if model.dtype == np.object_:  # fractions, say
        model = dimod.BinaryQuadraticModel(model, dtype=np.float64)
    low = min(model.vartype.value)

    def make() -> Problem:
        check_size(len(model.variables))
        constrained = dimod.ConstrainedQuadraticModel()
        constrained.set_objective(model)
        return problem_of(constrained, lay_out(constrained))

    def sample(choice: Choice) -> Sample:
        return {v: 1 if option else low for v, option in zip(model.variables, choice)}

    return Read(make, "bqm", sample, lambda values: float(model.energy(values)), lambda values: True, model)


def of_cqm(model: dimod.ConstrainedQuadraticModel) -> Read:
    """A constrained model of binary variables as a problem; see `coldpress.interchange.constrained` for how.

    Raises:
        PlanError: a variable is not binary, a constraint is soft, or a bias is not finite.
        BudgetError: no values meet a constraint.
    """
    layout = lay_out(model)
    problem = problem_of(model, layout)
    return Read(
        lambda: problem,
        "cqm",
        layout.sample,
        lambda values: float(model.objective.energy(values)),
        lambda values: bool(model.check_feasible(values, atol=TOLERANCE)),
    )


def write(problem: Problem, path: Path) -> None:
    """Write a problem in the form that the file's ending names: .json (ours), .cqm, .bqm (with penalties) or .coo.

    Raises:
        PlanError: another ending.
        BudgetError: as a QUBO it would be too large.
    """
    if path.suffix == ".json":
        write_text(path, problem.to_json())
    elif path.suffix == ".coo":
        write_text(path, coo.dumps(problem.to_bqm()))
    elif path.suffix in (".bqm", ".cqm"):
        made = problem.to_bqm() if path.suffix == ".bqm" else problem.to_cqm()
        beside = path.with_name(path.name + ".partial")
        beside.write_bytes(made.to_file().read())
        beside.replace(path)
    else:
        raise PlanError(f"{path} ends in {path.suffix or 'nothing'}; end it in .json, .cqm, .bqm or .coo")
