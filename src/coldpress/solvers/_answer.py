"""What every solver returns, and how each of them starts and ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldpress.errors import BudgetError
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
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Progress:
    """The incumbent, the bound and the clock of one run; ``seen`` are the plans that descent began from."""

    problem: Problem
    time_limit: float
    started: float = field(default_factory=time.perf_counter)
    choice: NDArray[np.int64] | None = None
    energy: float = np.inf
    bound: float | None = None
    trace: list[Moment] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)

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
        self.trace.append((self.seconds, self.energy, self.bound))
        return True

    def raise_bound(self, bound: float) -> None:
        """Take ``bound`` if it is higher than the one known."""
        # Rounding in the eigenvalues and in the LP may put a bound a hair above the energy of a true optimum.
        bound = min(bound, self.energy)
        if np.isfinite(bound) and (self.bound is None or bound > self.bound):
            self.bound = bound
            self.trace.append((self.seconds, self.energy, self.bound))

    def answer(self, solver: str, facts: Mapping[str, Any] | None = None) -> Answer:
        """The answer; raises BudgetError when no feasible plan was found."""
        if self.choice is None:
            raise unreachable(self.problem)
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
            facts=dict(facts or {}),
        )


def relative_gap(energy: float, bound: float) -> float:
    """``(energy - bound) / |energy|``, at least 0."""
    return max(energy - bound, 0.0) / max(abs(energy), 1e-12)


def start(problem: Problem, time_limit: float) -> Progress:
    """Begin a run. Raises BudgetError at once when some limit is below what the quantity can reach."""
    progress = Progress(problem, time_limit)
    for quantity, limit in problem.limits.items():
        if problem.smallest(quantity)[0] > limit * (1 + 1e-9):
            raise unreachable(problem)
    return progress


def unreachable(problem: Problem) -> BudgetError:
    """The error for a budget that cannot be met, naming the quantity, the limit and the smallest that can be."""
    lines = []
    for quantity, limit in problem.limits.items():
        bound, found = problem.smallest(quantity)
        if bound > limit * (1 + 1e-9):
            if np.isinf(bound):
                return BudgetError("no plan is allowed at all: every combination is forbidden by some cost")
            written = problem.budget.given()[quantity]
            reachable = found if np.isfinite(found) else bound
            share = reachable / problem.originals[quantity]
            return BudgetError(
                f"the budget {quantity}={written} (at most {limit:.6g}) cannot be met: the smallest {quantity} that "
                f"can be reached is {reachable:.6g}, {share:.1%} of the original; "
                "raise the limit or offer stronger options"
            )
        lines.append(f"{quantity} <= {limit:.6g} (alone, {max(bound, min(found, limit)):.6g} can be reached)")
    return BudgetError(
        "no plan was found that meets all limits together: " + "; ".join(lines or ["no limit"]) + "; raise one of them"
    )
