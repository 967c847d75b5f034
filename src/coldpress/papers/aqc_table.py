"""What the experiment on the published QUBO is made of: its solvers, how much is done, a row, and gaps to a bound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coldpress.errors import TaskError
from coldpress.papers.decoded import Judged
from coldpress.solvers import relative_gap

PUBLISHED, OURS = "published", "curvature"
ORIGINAL, UNIFORM = "original", "uniform bits"
OWN_SAMPLER = "tabu"
"""What minimises the curvature energy: of the samplers of the published one, the default."""
SOLVERS = (
    "sa",
    "path-integral",
    OWN_SAMPLER,
    "dwave-tabu",
    "qaoa",
    "mock-pegasus",
    "genetic",
    "reinforce",
    "exact",
)


@dataclass(frozen=True)
class Scale:
    """How much is done; the published budgets are not known to us, so "paper" is our own choice too.

    Attributes:
        seconds: of every solver, all gammas together.
        steps: gammas after the bracket is found.
        images: samples that the curvature energy is measured on, and as many others that energies are judged on.
        plans: random samples for each rank correlation.
        refit: samples for the re-fit.
        epochs: of training on the grids; 0 leaves that out.
        lessons: samples of train, and a quarter as many of validation, that are used for it; None uses all, augmented.

    Raises:
        TaskError: seconds or epochs are out of their range.
    """

    seconds: float
    steps: int
    images: int
    plans: int
    refit: int
    epochs: int
    lessons: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.seconds < math.inf or self.epochs < 0:
            raise TaskError(
                f"seconds are {self.seconds:g} and epochs {self.epochs}; they must be above 0, and 0 or more"
            )


SCALES = {
    "tiny": Scale(8.0, 8, 128, 12, 256, 1, 1024),
    "short": Scale(60.0, 16, 128, 40, 512, 5),
    "paper": Scale(600.0, 16, 256, 100, 1024, 50),
}


@dataclass(frozen=True)
class Row:
    """One contender.

    Attributes:
        energy: what was minimised; "" for the original and uniform bits.
        solver: who did it.
        loss: L_p + beta L_q of the feasible sample, by the published energy whatever was minimised.
        raw: least loss of a feasible read before repair, by the energy that was minimised; None where no read was.
        minimised: of the feasible sample, by the energy that was minimised.
        bound: no feasible sample has less loss, where this solver proved one.
        reduction: rate reached.
        runs: gammas.
        seconds: of all of them.
        sample: the variables' values, as zeros and ones in the order of the space.
        judged: by stage (`coldpress.papers.decoded`).
        note: what the solver is, or why there is nothing.
        read_energies: quartiles of the energies of all reads in the run that gave the sample, less gamma times the
            reduction; None of a single read.
        chain_breaks: share of broken chains, mean over the runs; None where no model was embedded.
    """

    energy: str
    solver: str
    loss: float | None = None
    raw: float | None = None
    minimised: float | None = None
    bound: float | None = None
    reduction: float | None = None
    runs: int = 0
    seconds: float | None = None
    sample: str = ""
    judged: Mapping[str, Judged] = field(default_factory=dict)
    note: str = ""
    read_energies: tuple[float, ...] | None = None
    chain_breaks: float | None = None

    @property
    def name(self) -> tuple[str, str]:
        """What tells rows apart."""
        return self.energy, self.solver

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Row:
        """A row out of `dataclasses.asdict`."""
        return cls(**{**given, "judged": {stage: Judged(**found) for stage, found in given["judged"].items()}})


@dataclass(frozen=True)
class Ranked:
    """Rank correlations of an energy with the measured loss of random samples, of rising and of one strength."""

    energy: str
    rising: float
    equal: float


def best_bound(rows: Sequence[Row]) -> float | None:
    """The highest proven bound of the published loss."""
    return max((row.bound for row in rows if row.energy == PUBLISHED and row.bound is not None), default=None)


def gap(row: Row, bound: float | None) -> float | None:
    """How far a row's published loss may be above the least one, of itself; None where nothing is proven."""
    return None if bound is None or row.loss is None or not row.runs else relative_gap(row.loss, bound)
