"""The published QUBO of filters and bits on any network: one model, many solvers, equal time, and what it is worth.

"Is Quantum Optimization Ready? An Effort Towards Neural Network Compression using Adiabatic Quantum Computing"
(arXiv:2505.16332): H = L_p + beta L_q - gamma R (`coldpress.energy.weight_norm`). Its tables are not known to us, so no
figure here is its authors'. Nothing here runs on quantum hardware: a mock of it is called one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import dimod
from torch.utils.data import TensorDataset

from coldpress import splits
from coldpress.cost.reduction import reduction_rate
from coldpress.energy.filter_correlation import compare_energies, random_samples
from coldpress.energy.filter_curvature import curvature
from coldpress.energy.weight_norm import weight_norm
from coldpress.errors import BudgetError, HardwareError, PlanError, SamplerError, SpaceError, TaskError
from coldpress.filters import LEAST_BITS
from coldpress.papers.aqc_table import ORIGINAL, OURS, OWN_SAMPLER, PUBLISHED, SOLVERS, UNIFORM, Ranked, Row, Scale
from coldpress.papers.contenders import check, contender, title, warm_up
from coldpress.papers.decoded import Judged, carried_out, judge, uniform_bits
from coldpress.recovery import Settings
from coldpress.solvers.reduction import Reduced, bisect_gamma, repair
from coldpress.space.filters import find_filters
from coldpress.task import Task

logger = logging.getLogger("coldpress.papers")

STRENGTH = 0.25
"""Share of filters and bits that go in random samples of one strength."""


class AQC:
    """The experiment on one task.

    Args:
        task: a classifier with train, validation and test data.
        rate: of all weights' bits, what is to be saved at least.
        scale: how much is done.
        solvers: names, as `coldpress.papers.contenders.contender` takes them.
        seed: of everything random.
        known: rows of an earlier run with the same settings; they are not computed again.
        tell: called with (what, done, in all).
        code: of the bits that go, by name (`coldpress.filters.LEAST_BITS`).

    Raises:
        BudgetError: the rate cannot be reached; the message says which can.
        SpaceError: no layer can be rounded, or no filter can go.
        TaskError: the rate is not between 0 and 1, a solver is named twice, the code is unknown, or a split is missing.
        ColdpressError: no solver or sampler is called so.
    """

    def __init__(
        self,
        task: Task,
        rate: float,
        scale: Scale,
        solvers: Sequence[str] = SOLVERS,
        seed: int = 0,
        known: Sequence[Row | Ranked] = (),
        tell: Callable[[str, int, int], None] | None = None,
        code: str = "cut",
    ) -> None:
        if not 0.0 < rate < 1.0:
            raise TaskError(f"rate is {rate:g}; it must be between 0 and 1, 0.5 say: the share of all bits that goes")
        if code not in LEAST_BITS:
            raise TaskError(f"code is {code!r}; choose {' or '.join(LEAST_BITS)}")
        if None in (task.train, task.validation, task.test):
            raise TaskError("fitting, choosing and reporting need data of their own: give train, validation and test")
        if not solvers or len(set(solvers)) < len(solvers):
            raise TaskError(f"solvers are {', '.join(solvers) or 'none'}; name one or more, each once")
        self.task, self.rate, self.scale, self.seed, self.tell = task, rate, scale, seed, tell
        self.solvers = tuple(solvers)
        self.space = find_filters(task, least_bits=LEAST_BITS[code])
        if not self.space.filters:
            why = "; ".join(dict.fromkeys(self.space.refused.values()))
            raise SpaceError(f"no filter of this network can go, so there is nothing to choose: {why or 'no groups'}")
        self.published = weight_norm(task.model, self.space)
        self.reduction = reduction_rate(self.space)
        repair(dict.fromkeys(self.space.variables, 0), self.published, self.reduction, rate, self.space.keep_one)
        for name in self.solvers:
            _check(name)
        done = [row for row in known if isinstance(row, Row) and row.judged]
        self._known = {row.name: row for row in done}
        self._judged = {row.sample: row.judged for row in done if row.sample}
        self._ranked = [row for row in known if isinstance(row, Ranked)]

    def stages(self) -> Iterator[Row | Ranked]:
        """All of it, row by row: the original, uniform bits, every solver, ours, and the rank correlations."""
        wanted = [(PUBLISHED, name) for name in self.solvers] + [(OURS, OWN_SAMPLER)]
        yield self._known.get(("", ORIGINAL)) or self.original()
        yield self._known.get(("", UNIFORM)) or self.uniform()
        for done, (energy, name) in enumerate(wanted):
            yield self._known.get((energy, name)) or self.solved(energy, name)
            self._say("solvers", done + 1, len(wanted))
        whole = {PUBLISHED, OURS} <= {row.energy for row in self._ranked}
        yield from self._ranked if whole else self.ranked()

    def original(self) -> Row:
        """The network as it is, 32 bits a weight."""
        found = self.task.evaluate(self.task.model)
        size = sum(tensor.numel() * tensor.element_size() for tensor in self.task.model.state_dict().values())
        sizes = f"{len(self.space.filters)} filters, {len(self.space.layers)} layers"
        judged = Judged(found.accuracy, found.accuracy_interval, size, 0, True)
        note = f"not packed; {len(self.space.variables)} variables: {sizes}"
        return Row("", ORIGINAL, judged={"as it is": judged}, note=note)

    def uniform(self) -> Row:
        """All layers in as few bits as the rate asks for, and all filters kept."""
        try:
            sample = uniform_bits(self.space, self.rate)
        except BudgetError as error:
            return Row("", UNIFORM, note=f"skipped: {error}")
        return self._row("", UNIFORM, sample, note=f"{min(self.space.bits(sample).values())} bits, all filters kept")

    def solved(self, energy: str, name: str) -> Row:
        """One energy minimised by one solver at the rate, within the time, and what becomes of its sample."""
        try:
            sampler = contender(name)
            loss = self.published if energy == PUBLISHED else self.curvature
            warm_up(sampler)
            found = self._bisected(loss, sampler)
        except (HardwareError, PlanError, SamplerError) as error:
            return Row(energy, name, note=f"skipped: {error}")
        facts = {
            "raw": None if found.raw is None else found.raw[0],
            "minimised": found.loss,
            "bound": found.bound,
            "runs": len(found.trace),
            "seconds": found.seconds,
            "read_energies": found.read_energies,
            "chain_breaks": found.chain_breaks,
        }
        return self._row(energy, name, found.sample, note=title(name, sampler), **facts)

    def ranked(self) -> Iterator[Ranked]:
        """How both energies rank random samples, beside the loss that is measured on other images than theirs."""
        energies = {PUBLISHED: self.published, OURS: self.curvature}
        inputs = [tensor[self.scale.images :] for tensor in self._images]
        found = {}
        for kind, least, most in (("rising", 0.05, 0.6), ("equal", STRENGTH, STRENGTH)):
            samples = random_samples(self.space, self.scale.plans, self.seed, least, most)
            found[kind] = compare_energies(
                self.task.model,
                self.space,
                energies,
                inputs,
                samples,
                partial(self._say, f"samples, {kind}"),
            ).spearman
        for name in energies:
            yield Ranked(name, found["rising"][name], found["equal"][name])

    @cached_property
    def curvature(self) -> dimod.BinaryQuadraticModel:
        """Our energy over the same variables."""
        inputs = [tensor[: self.scale.images] for tensor in self._images]
        told = (lambda done, total: self._say("curvature", done, total)) if self.tell else None
        return curvature(self.task.model, self.space, inputs, told)

    @cached_property
    def _images(self) -> tuple[Any, ...]:
        inputs, _ = self.task.calibration(2 * self.scale.images)
        return inputs

    def _bisected(self, loss: dimod.BinaryQuadraticModel, sampler: dimod.Sampler) -> Reduced:
        return bisect_gamma(
            loss,
            self.reduction,
            self.rate,
            sampler,
            self.space.keep_one,
            self.scale.steps,
            self.scale.seconds,
            seed=self.seed,
        )

    def _row(self, energy: str, solver: str, sample: dict[str, int], note: str, **facts: Any) -> Row:
        """A row of a sample; what another contender found too is not trained again."""
        text = "".join(str(int(value)) for value in self.space.vector(sample))
        if text not in self._judged:
            self._judged[text] = self._judge(sample)
        loss, rate = float(self.published.energy(sample)), self.space.reduction(sample)
        return Row(energy, solver, loss, reduction=rate, sample=text, judged=self._judged[text], note=note, **facts)

    def _judge(self, sample: dict[str, int]) -> dict[str, Judged]:
        training = Settings(epochs=self.scale.epochs, lr=0.02, seed=self.seed)
        stages = carried_out(self.task, self.space, sample, self.scale.refit, training, self._lessons)
        return {stage: judge(self.task, decoded, seconds) for stage, decoded, seconds in stages}

    @cached_property
    def _lessons(self) -> Task:
        """What is trained on."""
        if self.scale.lessons is None:
            return self.task
        train = _drawn(self.task.train, self.scale.lessons, self.seed)
        validation = _drawn(self.task.validation, max(self.scale.lessons // 4, 1), self.seed)
        return Task(self.task.model, self.task.example_inputs, train=train, validation=validation, seed=self.seed)

    def _say(self, what: str, done: int, total: int) -> None:
        if self.tell:
            self.tell(what, done, total)


def _drawn(data: Any, count: int, seed: int) -> TensorDataset:
    inputs, labels = splits.draw(data, count, seed)
    return TensorDataset(*inputs, labels)


def _check(name: str) -> None:
    """Refuse an unknown name at once; one that lacks what it needs gets a row that says so."""
    try:
        check(name)
    except HardwareError as error:
        logger.warning("%s is left out: %s", name, error)
