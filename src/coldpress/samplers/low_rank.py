"""Simulated annealing of a diagonal plus a signed low-rank energy, where a flip costs the rank (Kirkpatrick 1983)."""

from __future__ import annotations

from typing import Any, ClassVar

import dimod
import numpy as np
from numpy.typing import ArrayLike, NDArray

from coldpress.errors import SamplerError
from coldpress.samplers._arguments import Clock, Improvements, clock, listed, real, sequence, stream, whole
from coldpress.samplers._low_rank import (
    Form,
    anneal_exchanges,
    anneal_flips,
    energies,
    exchange_best,
    pull_of,
    typical_change,
)
from coldpress.samplers._model import Bits, Floats, Model, empty_set, given_states, read, sample_set

METHOD = "low-rank simulated annealing, classical"
HOTTEST, COLDEST = 0.3, 1e-3
"""First and last temperature, in the mean size of the energy's change by a random move."""
MOST_VARIABLES = 5_000
"""Of a model given to `LowRankAnnealingSampler.sample`, which takes its eigenvectors: about a minute."""
_BYTES = 32  # of each entry of the matrix, its eigenvectors and their workspace together
_LARGEST = 1e300  # of any energy
_SMALLEST = 1e-290  # typical change of the energy whose inverse is a number
_CHUNK = 20_000_000  # products between looks at the clock


class LowRankAnnealingSampler(dimod.Sampler, dimod.Initialized):
    """Anneals ``diagonal . x + sum_k weights_k (factor^T x)_k^2``, then descends to a local minimum.

    A state keeps the r numbers ``factor^T x``, so a flip costs r and the n x n matrix is never formed: made for 10^3 to
    10^5 variables and ranks far below. With a cardinality, moves exchange a one with a zero. `sample` takes the
    eigenvectors of any model's couplings as factor; a flip then costs their number, and other samplers are faster.

    Source: S. Kirkpatrick, C. D. Gelatt, M. P. Vecchi, "Optimization by simulated annealing", Science 220, 1983.

    Example:
        >>> import numpy as np
        >>> factor = np.array([[1.0], [-1.0], [2.0], [-2.0]])
        >>> found = LowRankAnnealingSampler().sample_low_rank([0.1, 0.2, 0.0, 0.3], factor, cardinality=2, seed=0)
        >>> [i for i, value in found.first.sample.items() if value], round(float(found.first.energy), 3)
        ([0, 1], 0.3)
    """

    parameters: ClassVar[dict[str, list[str]]] = listed(
        "num_reads", "num_sweeps", "seed", "time_limit", "beta_range", "initial_states"
    )
    properties: ClassVar[dict[str, Any]] = {"method": METHOD}

    def sample(
        self,
        bqm: Any,
        *,
        num_reads: int | None = None,
        num_sweeps: int = 1000,
        seed: int | None = None,
        time_limit: float | None = None,
        beta_range: tuple[float, float] | None = None,
        initial_states: Any = None,
        **kwargs: Any,
    ) -> dimod.SampleSet:
        """The best state of each read, by way of the couplings' eigenvectors (n^3 operations, n^2 numbers).

        Args:
            bqm: a `dimod.BinaryQuadraticModel` of at most `MOST_VARIABLES`.
            num_reads: annealing runs; by default as many as there are initial states, at least 1.
            num_sweeps: sweeps of a run, n tried flips each.
            seed: same seed, same samples, where no time limit cuts; by default a new one.
            time_limit: seconds, the eigenvectors (which nothing cuts short) and all; what is left is shared equally by
                the reads, each of which makes its first sweeps in any case; by default none.
            beta_range: first and last inverse temperature; by default from the size of random moves.
            initial_states: where the reads begin, as `dimod.as_samples` reads it; the rest begin at random.
            **kwargs: of other samplers; ignored with a warning.

        Returns:
            One sample a read, with ``info``: method, seconds, rank, improvements (the seconds and the energy whenever
            one was met that was lower than all before).

        Raises:
            SamplerError: there are too many variables, a bias is not a finite number or so large that energies
                overflow, or an argument is out of its range.
        """
        self.remove_unknown_kwargs(**kwargs)
        total, seeds = clock(time_limit), sequence(seed)
        reads = None if num_reads is None else whole("num_reads", num_reads, 1)
        sweeps, betas = whole("num_sweeps", num_sweeps, 1), _betas(beta_range)
        model = read(bqm)
        if len(model) == 0:
            return empty_set(bqm, method=METHOD, seconds=total.seconds)
        if len(model) > MOST_VARIABLES:
            raise SamplerError(
                f"LowRankAnnealingSampler.sample takes at most {MOST_VARIABLES:,} variables, and this model has "
                f"{len(model):,}: its eigenvectors would take about {_BYTES * len(model) ** 2 / 1e9:,.1f} GB and n^3 "
                "operations; use OneFlipTabuSampler, or sample_low_rank where a factor is known"
            )
        starts = given_states(self, bqm, initial_states, reads, int(seeds.generate_state(1)[0]))
        form, offset = model.kept(_eigenvectors)
        bits, met = _anneal(form, starts, None, sweeps, betas, total, seeds)
        info = {"rank": len(form.weights), "improvements": [(seconds, energy + offset) for seconds, energy in met]}
        return sample_set(bqm, model, bits, method=METHOD, seconds=total.seconds, **info)

    def sample_low_rank(
        self,
        diagonal: ArrayLike,
        factor: ArrayLike,
        cardinality: int | None = None,
        *,
        weights: ArrayLike | None = None,
        num_reads: int | None = None,
        num_sweeps: int = 1000,
        seed: int | None = None,
        time_limit: float | None = None,
        beta_range: tuple[float, float] | None = None,
        initial_states: ArrayLike | None = None,
    ) -> dimod.SampleSet:
        """The best state of each read, over variables 0 to n - 1 with values 0 and 1.

        Args:
            diagonal: (n,) energy of each variable alone, beside what the factor gives it.
            factor: (n, r), a row for each variable.
            cardinality: how many variables are 1 in every sample, 0 to n; by default any number.
            weights: (r,) factor of each square, of either sign; by default 1.
            num_reads: annealing runs; by default as many as there are initial states, at least 1.
            num_sweeps: sweeps of a run, n tried moves each.
            seed: same seed, same samples, where no time limit cuts; by default a new one.
            time_limit: seconds of annealing for all reads together, an equal share for each; by default none.
            beta_range: first and last inverse temperature; by default from the size of random moves.
            initial_states: (reads, n) zeros and ones, of the cardinality where one is given.

        Raises:
            SamplerError: shapes do not fit, a number is not finite or so large that energies overflow, or an argument
                is out of its range.
        """
        total, seeds = clock(time_limit), sequence(seed)
        sweeps, betas = whole("num_sweeps", num_sweeps, 1), _betas(beta_range)
        form = _checked(diagonal, factor, weights)
        n = len(form.diagonal)
        if cardinality is not None and whole("cardinality", cardinality, 0) > n:
            raise SamplerError(f"cardinality is {cardinality}, but there are {n} variables; give 0 to {n}")
        starts = _starts(n, cardinality, initial_states, num_reads, np.random.default_rng(seeds.spawn(1)[0]))
        bits, met = _anneal(form, starts, cardinality, sweeps, betas, total, seeds)
        info = {"method": METHOD, "seconds": total.seconds, "rank": len(form.weights), "improvements": met}
        return dimod.SampleSet.from_samples(bits, dimod.BINARY, energy=energies(form, bits), info=info)


def _betas(beta_range: Any) -> tuple[float, float] | None:
    if beta_range is None:
        return None
    try:
        first, last = beta_range
    except (TypeError, ValueError):
        raise SamplerError(f"beta_range is {beta_range!r}; give the first and the last inverse temperature") from None
    first, last = real("beta_range[0]", first, above=0.0), real("beta_range[1]", last, above=0.0)
    if first > last:
        raise SamplerError(f"beta_range is {beta_range!r}; the first inverse temperature may not exceed the last")
    return first, last


def _eigenvectors(model: Model) -> tuple[Form, float]:
    """A model's couplings by their eigenvectors, and its offset over zeros and ones."""
    with np.errstate(over="ignore", invalid="ignore"):
        binary = model.as_binary()
        _check_size(float(np.abs(binary.linear).sum() + np.abs(binary.weights).sum()))
    values, vectors = np.linalg.eigh(binary.matrix())
    kept = np.abs(values) > 1e-14 * np.abs(values).max()
    return _form(binary.linear, vectors[:, kept], 0.5 * values[kept]), binary.offset


def _form(diagonal: Floats, factor: Floats, weights: Floats) -> Form:
    rows = np.ascontiguousarray(factor)
    return Form(np.ascontiguousarray(diagonal), rows, np.ascontiguousarray(weights), (rows * rows) @ weights)


def _checked(diagonal: ArrayLike, factor: ArrayLike, weights: ArrayLike | None) -> Form:
    try:
        d, g = np.array(diagonal, np.float64), np.array(factor, np.float64)
        w = np.ones(g.shape[-1]) if weights is None else np.array(weights, np.float64)
    except (TypeError, ValueError) as error:
        raise SamplerError(f"diagonal, factor and weights must be arrays of numbers: {error}") from error
    if d.ndim != 1 or len(d) == 0 or g.ndim != 2 or len(g) != len(d) or w.shape != g.shape[1:]:
        raise SamplerError(
            f"diagonal {d.shape}, factor {g.shape} and weights {w.shape} do not fit; give (n,), (n, r) and (r,), n > 0"
        )
    for name, array in (("diagonal", d), ("factor", g), ("weights", w)):
        if not np.isfinite(array).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise SamplerError(f"{name}{list(at)} is {array[at]}; give finite numbers")
    with np.errstate(over="ignore"):
        _check_size(float(np.abs(d).sum() + np.abs(g).sum(axis=0) ** 2 @ np.abs(w)))
    return _form(d, g, w)


def _check_size(largest: float) -> None:
    """Refuse numbers whose energies, up to ``largest``, would overflow."""
    if not largest < _LARGEST:
        raise SamplerError(f"energies could be as large as {largest:g}: divide all numbers by a common factor")


def _starts(
    n: int, cardinality: int | None, initial_states: ArrayLike | None, num_reads: int | None, rng: np.random.Generator
) -> Bits:
    """States (reads, n) to begin at: the given ones, then random ones."""
    given = np.zeros((0, n), np.int8) if initial_states is None else np.atleast_2d(np.asarray(initial_states))
    if given.ndim != 2 or given.shape[1] != n or not np.isin(given, (0, 1)).all():
        raise SamplerError(f"initial_states has shape {given.shape}; give zeros and ones of shape (reads, {n})")
    if cardinality is not None and (given.sum(axis=1) != cardinality).any():
        raise SamplerError(f"an initial state has not exactly {cardinality} ones, which the cardinality asks for")
    reads = max(len(given), 1) if num_reads is None else whole("num_reads", num_reads, 1)
    states = rng.integers(0, 2, (reads, n), dtype=np.int8)
    if cardinality is not None:
        states = rng.permuted(np.tile(np.arange(n) < cardinality, (reads, 1)), axis=1).astype(np.int8)
    states[: len(given)] = given[:reads]
    return states


def _anneal(
    form: Form,
    starts: Bits,
    cardinality: int | None,
    sweeps: int,
    betas: tuple[float, float] | None,
    time: Clock,
    seeds: np.random.SeedSequence,
) -> tuple[Bits, list[tuple[float, float]]]:
    """The best state of a run from each start, (reads, n), and the improvements met on the way."""
    n, rank = form.factor.shape
    if cardinality in (0, n):
        return starts, []
    chunk = int(np.clip(_CHUNK // (n * max(rank, 1)), 1, 64))
    found, improvements = [], Improvements(time)
    for at, start in enumerate(starts):
        part, random, bits = time.part(len(starts) - at), stream(seeds), start.copy()
        typical = typical_change(form, bits, pull_of(form, bits), cardinality is not None, 1000, random)
        typical = max(typical, _SMALLEST) if typical else 1.0
        first, last = betas or (1.0 / (HOTTEST * typical), 1.0 / (COLDEST * typical))
        temperatures = 1.0 / np.geomspace(first, last, sweeps)
        best, energy = bits.copy(), np.full(2, energies(form, bits[None])[0])
        on, off = np.flatnonzero(bits), np.flatnonzero(bits == 0)
        for begin in range(0, sweeps, chunk):
            pull, now = pull_of(form, bits), temperatures[begin : begin + chunk]
            if cardinality is None:
                anneal_flips(form, bits, pull, now, best, energy, random)
            else:
                anneal_exchanges(form, bits, on, off, pull, now, best, energy, random)
            if energy[1] < improvements.least:
                improvements.offer(float(energies(form, best[None])[0]))
            if part.over:
                break
        found.append(_descend(form, best, cardinality, part, random))
        improvements.offer(float(energies(form, found[-1][None])[0]))
    return np.array(found), improvements.met


def _descend(form: Form, bits: Bits, cardinality: int | None, time: Clock, random: NDArray[np.uint64]) -> Bits:
    """A local minimum below ``bits``, or as far as the time goes."""
    pull, state = pull_of(form, bits), bits.copy()
    if cardinality is None:
        lowest, best, energy = energies(form, bits[None])[0], bits, np.zeros(2)
        while anneal_flips(form, state, pull, np.zeros(1), state.copy(), energy, random):
            now = energies(form, state[None])[0]
            if now >= lowest:
                break
            lowest, best = now, state.copy()
            if time.over:
                break
        return best
    while exchange_best(form, state, pull) and not time.over:
        pass
    return state
