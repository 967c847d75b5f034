"""Large models in blocks around any sampler, the rest frozen (after qbsolv: Booth, Reinhardt and Roy 2017)."""

from __future__ import annotations

import logging
from typing import Any

import dimod
import numpy as np

from coldpress.errors import HardwareError, SamplerError
from coldpress.samplers._arguments import Clock, clock, one_of, sequence, whole
from coldpress.samplers._blocks import cut, fiedler_order, impact_order
from coldpress.samplers._model import Floats, Ints, Model, empty_set, given_states, read, sample_set
from coldpress.samplers.asking import called_with, of_model

logger = logging.getLogger("coldpress.samplers")

METHOD = "block decomposition"
ORDERS = ("impact", "spectral")


class BlockDecomposer(dimod.ComposedSampler, dimod.Initialized):
    """Solves a model of any size by a sampler that takes at most ``max_variables``.

    In a sweep every variable is in one block. A block is given to the sampler with all other variables frozen at their
    values, which then act as linear terms; its best sample is taken where it lowers the energy. Sweeps go on until one
    gains nothing, so the energy never rises, and with an exact sampler no change within a block of the last sweep
    would lower it. "impact" puts the variables whose flips change the energy most together, in a new order every
    sweep; "spectral" neighbours along the Fiedler vector of |Q| (M. Fiedler, 1973), every sweep also with blocks moved
    by half a block.

    Args:
        sampler: any `dimod.Sampler`.
        max_variables: the largest block, 1 or more.

    Raises:
        SamplerError: the sampler is none of dimod's, or ``max_variables`` is out of its range.

    Example:
        >>> import dimod
        >>> from coldpress.samplers import BlockDecomposer, ExhaustiveSampler
        >>> chain = dimod.BinaryQuadraticModel({}, {(i, i + 1): -1 for i in range(39)}, 0.0, "SPIN")
        >>> samples = BlockDecomposer(ExhaustiveSampler(), 10).sample(chain, num_reads=3, order="spectral", seed=0)
        >>> float(samples.first.energy)
        -39.0
    """

    def __init__(self, sampler: Any, max_variables: int) -> None:
        if not isinstance(sampler, dimod.Sampler):
            raise SamplerError(f"sampler is a {type(sampler).__name__}; give a dimod.Sampler")
        self._sampler = sampler
        self._size = whole("max_variables", max_variables, 1)

    @property
    def children(self) -> list[Any]:
        """The sampler of the blocks."""
        return [self._sampler]

    @property
    def parameters(self) -> dict[str, list[str]]:
        """Arguments of `sample`; what ``child_parameters`` may hold."""
        own = ("num_reads", "order", "max_sweeps", "seed", "time_limit", "initial_states")
        return {name: [] for name in own} | {"child_parameters": list(self._sampler.parameters)}

    @property
    def properties(self) -> dict[str, Any]:
        """What this is, the largest block, and the sampler's own properties."""
        child = dict(self._sampler.properties)
        return {"method": METHOD, "max_variables": self._size, "orders": list(ORDERS), "child_properties": child}

    def sample(
        self,
        bqm: Any,
        *,
        num_reads: int | None = None,
        order: str = "impact",
        max_sweeps: int = 100,
        seed: int | None = None,
        time_limit: float | None = None,
        initial_states: Any = None,
        child_parameters: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dimod.SampleSet:
        """One state a read, from a random or given one downwards.

        Args:
            bqm: any `dimod.BinaryQuadraticModel`.
            num_reads: reads; by default as many as there are initial states, at least 1.
            order: "impact" or "spectral".
            max_sweeps: sweeps of a read at most.
            seed: same seed, same samples, where no time limit cuts and the sampler is as good as its word; given on,
                another for every block, to a sampler with that parameter. By default a new one.
            time_limit: seconds for all reads together, looked at after each block; an equal share for each read.
            initial_states: where the reads begin, as `dimod.as_samples` reads it; the rest begin at random.
            child_parameters: given to the sampler with every block.
            **kwargs: of other samplers; ignored with a warning.

        Returns:
            One sample a read, with ``info``: method, seconds, blocks (solved), traces (the energy at the beginning
            and after every sweep of every read), times (the seconds of each of these), children (the sampler's own info
            of each block); ``stopped`` where hardware failed after blocks were solved: why. What they gained is kept.

        Raises:
            SamplerError: a bias is not a finite number, an argument is out of its range, or the sampler fails, or
                returns what is not of its block (`coldpress.samplers.asking.checked`).
            HardwareError: hardware failed at the first block.
        """
        self.remove_unknown_kwargs(**kwargs)
        time, seeds = clock(time_limit), sequence(seed)
        reads = None if num_reads is None else whole("num_reads", num_reads, 1)
        sweeps, spectral = whole("max_sweeps", max_sweeps, 1), one_of("order", order, ORDERS) == "spectral"
        model, method = read(bqm), f"{METHOD} around {type(self._sampler).__name__}"
        if len(model) == 0:
            return empty_set(bqm, method=method, seconds=time.seconds)
        starts = given_states(self, bqm, initial_states, reads, int(seeds.generate_state(1)[0]))
        state = _Frozen(model)
        fixed = fiedler_order(state.couplings, int(seeds.generate_state(2)[1])) if spectral else None
        traces, times = list[list[float]](), list[list[float]]()
        found, children, stopped = [], list[dict[str, Any]](), dict[str, str]()
        for at, start in enumerate(starts):
            part = time.part(len(starts) - at)
            state.begin(start)
            traces.append([state.energy])
            times.append([time.seconds])
            for _ in range(sweeps):
                try:
                    gained = self._sweep(state, fixed, part, seeds, child_parameters or {}, children)
                except HardwareError as error:
                    if not children:
                        raise
                    gained, stopped["stopped"] = False, str(error)
                    logger.warning("stopped after %d blocks, whose gains are kept: %s", len(children), error)
                state.renew()
                traces[-1].append(state.energy)
                times[-1].append(time.seconds)
                if not gained or part.over:
                    break
            found.append(state.bits())
            if stopped:
                break
        return sample_set(
            bqm,
            model,
            np.array(found),
            method=method,
            seconds=time.seconds,
            blocks=len(children),
            traces=traces,
            times=times,
            children=children,
            **stopped,
        )

    def _sweep(
        self,
        state: _Frozen,
        fixed: Ints | None,
        time: Clock,
        seeds: np.random.SeedSequence,
        child_parameters: dict[str, Any],
        told: list[dict[str, Any]],
    ) -> bool:
        """One sweep; whether it gained. What the sampler tells of every block is added to ``told``."""
        size = self._size
        if fixed is None:
            blocks = list(cut(impact_order(state.changes()), size))
        else:
            moved = size // 2 if len(fixed) > size else 0
            blocks = list(cut(fixed, size)) + (list(cut(fixed, size, moved)) if moved else [])
        gained = False
        for block in blocks:
            given = dict(child_parameters)
            if "seed" in self._sampler.parameters:
                given.setdefault("seed", int(seeds.spawn(1)[0].generate_state(1)[0] >> 1))
            model, name = state.restricted(block), type(self._sampler).__name__
            samples = called_with(name, self._sampler.sample, model, given)
            if len(samples):  # hardware may discard all of its reads
                gained |= state.improve(block, of_model(samples, name, model))
            told.append(dict(samples.info))
            if time.over:
                break
        return gained


class _Frozen:
    """A state of a model, of which blocks are solved: ``values`` (n,), ``field`` (n,) the derivative by each value."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.couplings = model.kept(Model.sparse)
        self.low, self.high = (-1.0, 1.0) if model.spin else (0.0, 1.0)
        self.values: Floats = np.zeros(len(model))
        self.field: Floats = np.zeros(len(model))
        self.energy = 0.0

    def begin(self, bits: Any) -> None:
        """Go to the state ``bits`` (n,)."""
        self.values = np.where(bits > 0, self.high, self.low)
        self.renew()

    def renew(self) -> None:
        """Compute field and energy anew, which wipes out rounding."""
        pull = self.couplings @ self.values
        self.field = self.model.linear + pull
        self.energy = float(self.values @ (self.model.linear + 0.5 * pull)) + self.model.offset

    def bits(self) -> Any:
        """The state as zeros and ones, (n,)."""
        return (self.values > 0).astype(np.int8)

    def changes(self) -> Floats:
        """The energy's change by a flip of each variable, (n,)."""
        changes: Floats = (self.high + self.low - 2.0 * self.values) * self.field
        return changes

    def restricted(self, block: Ints) -> dimod.BinaryQuadraticModel:
        """The model over ``block`` alone, all else frozen; its energies are those of the whole."""
        inner = self.couplings[block][:, block]
        now = self.values[block]
        linear = self.field[block] - inner @ now
        offset = self.energy - float(now @ (linear + 0.5 * (inner @ now)))
        pairs = inner.tocoo()
        upper = pairs.row < pairs.col
        labels = [self.model.variables[i] for i in block]
        vartype = dimod.SPIN if self.model.spin else dimod.BINARY
        return dimod.BinaryQuadraticModel.from_numpy_vectors(
            linear, (pairs.row[upper], pairs.col[upper], pairs.data[upper]), offset, vartype, variable_order=labels
        )

    def improve(self, block: Ints, samples: dimod.SampleSet) -> bool:
        """Take the best sample of ``block`` in, if that lowers the energy; whether it does."""
        best = samples.first.sample
        values = np.array([best[self.model.variables[i]] for i in block], dtype=np.float64)
        step, rows = values - self.values[block], self.couplings[block]
        change = float(step @ (self.field[block] + 0.5 * (rows[:, block] @ step)))
        if change >= -1e-12 * (abs(self.energy) + float(np.abs(self.field).max())):
            return False
        self.values[block] = values
        self.field += rows.T @ step
        self.energy += change
        return True
