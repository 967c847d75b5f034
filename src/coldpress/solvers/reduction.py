"""Least loss at a reduction rate that must be met, by any sampler: bisection on gamma, or a penalty with slack bits.

Both end in `repair`, so the answer is feasible whatever the sampler did.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dimod
import numpy as np

from coldpress.binary import check_size, checked
from coldpress.errors import SamplerError
from coldpress.solvers._answer import check_time_limit
from coldpress.solvers._repair import Limited, Sample

logger = logging.getLogger("coldpress.solvers")

DOUBLINGS = 60
SAME = 1e-3
"""Gammas that differ by less, relatively, are the same."""
SLACK_BITS = 7
QUARTILES = (25, 50, 75)
LEAST_SECONDS = 1e-3
"""Of a run whose share of the time is used up."""


@dataclass(frozen=True)
class Reduced:
    """A feasible sample and how it was found.

    Attributes:
        sample: 0 or 1 for each variable.
        loss: of the sample.
        reduction: of the sample; at least what was asked for.
        raw: the same for the best sample as the sampler gave it, before repair: (loss, reduction); None where no read
            was feasible.
        trace: for each run of the sampler (gamma or penalty, loss and reduction of its read of least energy).
        seconds: wall time.
        bound: no feasible sample has less loss; None where the sampler proves nothing.
        read_energies: quartiles of the energies (of the model that is sampled) of all reads in the run that gave the
            sample; None of a single read.
        chain_breaks: share of broken chains, mean over the runs; None where no model was embedded.
    """

    sample: Sample
    loss: float
    reduction: float
    raw: tuple[float, float] | None
    trace: tuple[tuple[float, float, float], ...]
    seconds: float
    bound: float | None = None
    read_energies: tuple[float, ...] | None = None
    chain_breaks: float | None = None


def repair(
    sample: Mapping[str, Any],
    loss: dimod.BinaryQuadraticModel,
    reduction: dimod.BinaryQuadraticModel,
    target: float,
    keep_one: Sequence[Sequence[str]] = (),
) -> Sample:
    """Make a sample feasible, then take back what it need not give up.

    Sets that lost everything get back what harms most; then variables become 1 in the order of their harm per
    reduction, until the target is met; then those that harm most become 0 again wherever the target allows.

    Args:
        sample: 0 or 1 for each variable.
        loss: what is to be small.
        reduction: what must reach ``target``; it must not fall when a variable becomes 1.
        target: in the reduction's unit.
        keep_one: disjoint sets of variables of which one must stay 0, not coupled in ``reduction`` to each other.

    Raises:
        BudgetError: no sample reaches the target; the message says what can be reached.
        SamplerError: the sample is of other variables, or the reduction can fall.
    """
    return Limited(loss, reduction, target, keep_one).repaired(sample)


def bisect_gamma(
    loss: dimod.BinaryQuadraticModel,
    reduction: dimod.BinaryQuadraticModel,
    target: float,
    sampler: Any,
    keep_one: Sequence[Sequence[str]] = (),
    steps: int = 16,
    time_limit: float | None = None,
    **parameters: Any,
) -> Reduced:
    """Sample ``loss - gamma * reduction`` for gammas between one that gives too little and one that gives enough.

    At a true minimum the reduction rises with gamma, but a sampler is no proof: a run that gives less than one at a
    smaller gamma only moves the bracket, and the best feasible sample of all runs is kept. Minima over gamma are the
    corners of the trade's convex hull; between two corners `repair` fills in.

    A sampler that proves a ``lower_bound`` of its model, and tells it in the samples' info, bounds the loss too: no
    sample has less energy there, so what is feasible has at least the loss ``lower_bound + gamma * target``.

    Args:
        loss, reduction, target, keep_one: as in `repair`.
        sampler: any `dimod.Sampler`.
        steps: runs after the bracket is found.
        time_limit: seconds for all runs together, of a sampler with that parameter: each is given an equal share of
            what is left, and none begins later.
        **parameters: of the sampler's ``sample``: ``num_reads``, ``seed`` and so on.

    Raises:
        BudgetError: no sample reaches the target.
        PlanError: the time limit is not more than 0.
        SamplerError: the sampler's answer is refused (see `coldpress.binary.checked`).
    """
    if time_limit is not None:
        check_time_limit(time_limit)
    run = _Run(Limited(loss, reduction, target, keep_one))
    limit = np.inf if time_limit is None else time_limit

    def enough(gamma: float, more: int) -> bool:
        share = {} if time_limit is None else {"time_limit": max((limit - run.elapsed) / (more + 1), LEAST_SECONDS)}
        reached = run.sampled(traded(loss, reduction, gamma), sampler, gamma, parameters | share)
        if run.told is not None:
            run.bound = max(run.bound, run.told + gamma * run.limited.enough)
        return reached >= target

    low, high = 0.0, run.limited.scale
    for _ in range(DOUBLINGS):
        if enough(high, steps) or run.elapsed >= limit:
            break
        low, high = high, 2.0 * high
    for step in range(steps):
        if high - low <= SAME * high or run.elapsed >= limit:
            break
        gamma = (low * high) ** 0.5 if low else high / 4.0
        if enough(gamma, steps - 1 - step):
            high = gamma
        else:
            low = gamma
    return run.answer()


def penalise(
    loss: dimod.BinaryQuadraticModel,
    reduction: dimod.BinaryQuadraticModel,
    target: float,
    sampler: Any,
    keep_one: Sequence[Sequence[str]] = (),
    penalty: float | None = None,
    slack_bits: int = SLACK_BITS,
    **parameters: Any,
) -> Reduced:
    """Sample the loss with a penalty for missing the target, once.

    Args:
        loss, reduction, target, keep_one: as in `repair`.
        sampler: any `dimod.Sampler`.
        penalty, slack_bits: as in `slack_model`.
        **parameters: of the sampler's ``sample``.

    Raises:
        BudgetError: no sample reaches the target.
        SamplerError: the model would be too large, or the sampler's answer is refused.
    """
    run = _Run(Limited(loss, reduction, target, keep_one))
    penalty = run.limited.penalty if penalty is None else penalty
    run.sampled(slack_model(loss, reduction, target, penalty, slack_bits), sampler, penalty, parameters)
    return run.answer()


def slack_model(
    loss: dimod.BinaryQuadraticModel,
    reduction: dimod.BinaryQuadraticModel,
    target: float,
    penalty: float,
    slack_bits: int = SLACK_BITS,
) -> dimod.BinaryQuadraticModel:
    """``loss + penalty * (reduction - target - slack)^2``, the slack in binary steps up to the most that is left.

    The square of a quadratic reduction is of fourth degree, so every product in it becomes a variable ``u*v`` of its
    own, held there by the penalty of Rosenberg (1975) at a price above what it could gain.

    Args:
        loss, reduction, target: as in `repair`.
        penalty: price of missing the target by one.
        slack_bits: variables of the slack, ``slack0`` and so on.

    Raises:
        SamplerError: too many couplings, or a penalty or slack bits that are not above 0.
    """
    if not (penalty > 0 and np.isfinite(penalty)) or slack_bits < 1:
        raise SamplerError(f"penalty is {penalty!r} and slack_bits {slack_bits!r}; both must be above 0")
    terms = {v: float(bias) for v, bias in reduction.linear.items() if bias}
    place = {v: i for i, v in enumerate(reduction.variables)}
    products = {
        tuple(sorted(pair, key=place.__getitem__)): float(bias) for pair, bias in reduction.quadratic.items() if bias
    }
    count = len(terms) + len(products) + slack_bits
    check_size("a penalty on this reduction rate", count * (count - 1) // 2 + loss.num_interactions)
    model = loss.copy()
    for (u, v), bias in products.items():
        name, price = f"{u}*{v}", 2.0 * penalty * abs(bias)
        model.add_linear(name, 3.0 * price)
        model.add_quadratic(u, v, price)
        model.add_quadratic(u, name, -2.0 * price)
        model.add_quadratic(v, name, -2.0 * price)
        terms[name] = bias
    most = float(reduction.energy(dict.fromkeys(reduction.variables, 1)))
    unit = max(most - target, 0.0) / (2**slack_bits - 1)
    slack = [(f"slack{k}", -unit * 2**k) for k in range(slack_bits)]
    model.add_linear_equality_constraint(
        [*terms.items(), *slack], lagrange_multiplier=penalty, constant=float(reduction.offset) - target
    )
    return model


def traded(
    loss: dimod.BinaryQuadraticModel, reduction: dimod.BinaryQuadraticModel, gamma: float
) -> dimod.BinaryQuadraticModel:
    """``loss - gamma * reduction``."""
    model = reduction.copy()
    model.scale(-gamma)
    model.update(loss)
    return model


class _Run:
    """The best feasible sample so far."""

    def __init__(self, limited: Limited) -> None:
        self.limited, self.begin = limited, time.perf_counter()
        self.best: Sample | None = None
        self.loss = np.inf
        self.raw: tuple[float, float] | None = None
        self.trace: list[tuple[float, float, float]] = []
        self.bound = -np.inf
        self.told: float | None = None  # the sampler's bound of the last model
        self.read_energies: list[float] = []
        self.breaks: list[float] = []

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self.begin

    def sampled(self, model: dimod.BinaryQuadraticModel, sampler: Any, weight: float, parameters: Any) -> float:
        """Sample a model, take what it gives, and return the reduction of its read of least energy."""
        limited = self.limited
        found = checked(sampler.sample(model, **parameters), model)
        self.told, before = found.info.get("lower_bound"), self.loss
        self.breaks += [found.info[key] for key in ("chain_break_fraction",) if key in found.info]
        reads = [{v: int(read[v]) for v in limited.variables} for read in found.samples(sorted_by=None)]
        self.offer(reads[0])
        for read in reads:
            values = limited.values(read)
            if limited.feasible(read) and (self.raw is None or values[0] < self.raw[0]):
                self.raw = values
                self.offer(read)
        if self.loss < before:
            self.read_energies = found.info.get("read_energies", found.record.energy.tolist())
        loss, reduction = limited.values(reads[0])
        self.trace.append((weight, loss, reduction))
        return reduction

    def offer(self, read: Sample) -> None:
        """Repair a read, and keep it if it is the best so far."""
        mended = self.limited.repaired(read)
        loss = self.limited.values(mended)[0]
        if loss < self.loss:
            self.best, self.loss = mended, loss

    def answer(self) -> Reduced:
        assert self.best is not None
        loss, reduction = self.limited.values(self.best)
        bound = None if np.isneginf(self.bound) else min(self.bound, loss)  # rounding may put it a hair above
        logger.info("%d runs of the sampler: loss %g at reduction %.4f", len(self.trace), loss, reduction)
        many = len(self.read_energies) > 1
        spread = tuple(map(float, np.percentile(self.read_energies, QUARTILES))) if many else None
        breaks = float(np.mean(self.breaks)) if self.breaks else None
        return Reduced(self.best, loss, reduction, self.raw, tuple(self.trace), self.elapsed, bound, spread, breaks)
