"""What every solver returns, and how each of them starts and ends."""

from __future__ import annotations

import math
import numbers
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldpress.budget import Limits
from coldpress.errors import BudgetError, PlanError
from coldpress.plan import Plan
from coldpress.problem import Problem

Moment = tuple[float, float, float | None]


@dataclass(frozen=True, eq=False)
class Answer:
    """A solver's plan and what is known of it.

    Attributes:
        plan: the chosen options by name.
        choice: the same as option indices, shape ``(units,)``.
        energy: the plan's energy.
        lower_bound: no allowed plan has less energy than this; None where the solver proves nothing.
        gap: ``(energy - lower_bound) / |energy|``, at least 0; None without a bound.
        feasible: the plan meets every limit (always true: solvers raise otherwise).
        seconds: wall time, without the first call's compilation.
        solver: who found it; of a sampler also what kind it is.
        trace: (seconds, best energy, lower bound or None) whenever one of them improved.
        evaluations: plans whose energy was computed by each of these moments, and in all: one number more than the
            trace has. Empty of solvers that do not count them, since they move from plan to plan or relax.
        facts: what else a solver has to tell, as JSON-ready data: of a sampler, what became of its reads.
    """

    plan: Plan
    choice: NDArray[np.int64]
    energy: float
    lower_bound: float | None
    gap: float | None
    feasible: bool
    seconds: float
    solver: str
    trace: tuple[Moment, ...] = ()
    evaluations: tuple[int, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Progress:
    """The incumbent, the bound and the clock of one run.

    Attributes:
        seen: the plans that descent began from.
        impossible: it is proved that no plan meets all limits.
        evaluated: plans whose energy was computed so far, where a solver counts them.
        evaluations: the same at each moment of the trace.
    """

    problem: Problem
    time_limit: float
    started: float = field(default_factory=time.perf_counter)
    choice: NDArray[np.int64] | None = None
    energy: float = np.inf
    bound: float | None = None
    trace: list[Moment] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)
    impossible: bool = False
    evaluated: int = 0
    evaluations: list[int] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    @property
    def left(self) -> float:
        """Seconds left, at least 0."""
        return max(self.time_limit - self.seconds, 0.0)

    @property
    def gap(self) -> float:
        """Relative gap between incumbent and bound, +inf while one of them is missing."""
        return np.inf if self.bound is None or self.choice is None else relative_gap(self.energy, self.bound)

    def offer(self, choice: NDArray[np.int64]) -> bool:
        """Take ``choice`` as the incumbent if it is feasible and better; says whether it was taken."""
        energy = self.problem.energy_of(choice)
        if not energy < self.energy or not self.problem.feasible(choice):
            return False
        self.choice, self.energy = np.array(choice, dtype=np.int64), energy
        self._note()
        return True

    def raise_bound(self, bound: float) -> None:
        """Take ``bound`` if it is higher than the one known; +inf proves that there is no plan, where none is known."""
        if bound == np.inf and self.choice is None:
            self.impossible = True
        # Rounding in the eigenvalues and in the LP may put a bound a hair above the energy of a true optimum.
        bound = min(bound, self.energy)
        if np.isfinite(bound) and (self.bound is None or bound > self.bound):
            self.bound = bound
            self._note()

    def _note(self) -> None:
        self.trace.append((self.seconds, self.energy, self.bound))
        self.evaluations.append(self.evaluated)

    def answer(self, solver: str, facts: Mapping[str, Any] | None = None) -> Answer:
        """The answer; raises BudgetError when no feasible plan was found."""
        if self.choice is None:
            raise self._nothing()
        return Answer(
            plan=self.problem.plan(self.choice),
            choice=self.choice,
            energy=self.energy,
            lower_bound=self.bound,
            gap=None if self.bound is None else self.gap,
            feasible=True,
            seconds=self.seconds,
            solver=solver,
            trace=tuple(self.trace),
            evaluations=(*self.evaluations, self.evaluated) if self.evaluated else (),
            facts=dict(facts or {}),
        )

    def _nothing(self) -> BudgetError:
        """The error where no plan was found."""
        lines = []
        for quantity, limit in self.problem.limits.items():
            bound, found = self.problem.smallest(quantity)
            word, shown = self.problem.budget.in_words(quantity, limit)
            reached = self.problem.budget.in_words(quantity, max(bound, min(found, limit)))[1]
            lines.append(f"{quantity} {word} {shown:.6g} (alone, {reached:.6g} can be reached)")
        limits = "; ".join(lines or ["no limit"])
        if self.impossible and not lines:
            return nothing_allowed()
        if self.impossible:
            return BudgetError(f"proved: no plan meets all limits together: {limits}; loosen one of them", proved=True)
        return BudgetError(
            f"none was found in {self.seconds:.3g} seconds of the plans that meet all limits together: {limits}; "
            "whether there is one is unknown: give more time to solver exact, or loosen a limit"
        )


def check_time_limit(time_limit: Any) -> None:
    """Refuse a time limit that is not a number of seconds above 0.

    Raises:
        PlanError: it is not.
    """
    number = isinstance(time_limit, numbers.Real) and not isinstance(time_limit, bool)
    if not number or math.isnan(time_limit) or time_limit <= 0:
        raise PlanError(f"time_limit is {time_limit}; give seconds, more than 0")


def relative_gap(energy: float, bound: float) -> float:
    """``(energy - bound) / |energy|``, at least 0."""
    return max(energy - bound, 0.0) / max(abs(energy), 1e-12)


def start(problem: Problem, time_limit: float) -> Progress:
    """Begin a run.

    Raises:
        BudgetError: some limit is below what the quantity can reach.
        PlanError: the time limit is none.
    """
    check_time_limit(time_limit)
    progress = Progress(problem, time_limit)
    for quantity, limit in problem.limits.items():
        if problem.smallest(quantity)[0] > limit * (1 + 1e-9):
            raise unreachable(problem, quantity)
    return progress


def nothing_allowed() -> BudgetError:
    """The error where costs forbid everything."""
    return BudgetError("proved: no plan is allowed at all: every combination is forbidden by some cost", proved=True)


def unreachable(problem: Problem, quantity: str) -> BudgetError:
    """The error for a limit that no plan meets, naming the quantity, the limit and the smallest that can be."""
    limit, (bound, found) = problem.limits[quantity], problem.smallest(quantity)
    if np.isinf(bound):
        return nothing_allowed()
    reachable = found if np.isfinite(found) else bound
    (word, shown), (_, reached) = (problem.budget.in_words(quantity, value) for value in (limit, reachable))
    if isinstance(problem.budget, Limits):
        return BudgetError(
            f"proved: {quantity} {word} {shown:.6g} cannot be met: {reached:.6g} can be reached; loosen it",
            proved=True,
        )
    return BudgetError(
        f"the budget {quantity}={problem.budget.given()[quantity]} ({word} {shown:.6g}) cannot be met: the smallest "
        f"{quantity} that can be reached is {reached:.6g}, {reachable / problem.originals[quantity]:.1%} of the "
        "original; raise the limit or offer stronger options",
        proved=True,
    )
