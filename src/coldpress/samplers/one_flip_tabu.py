"""One-flip tabu search with path relinking, compiled (Glover, Lü and Hao 2010; Wang, Lü, Glover and Hao 2012)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import dimod
import numpy as np

from coldpress.samplers._arguments import Clock, Improvements, clock, listed, sequence, stream, whole
from coldpress.samplers._couplings import Couplings, bits_of, lay_out
from coldpress.samplers._model import Bits, Model, empty_set, given_states, read, sample_set

METHOD = "one-flip tabu search with path relinking, classical"
ELITE = 8
"""Good states that are kept, and relinked."""
_CHUNK = 50_000_000  # deltas scanned between looks at the clock


class OneFlipTabuSampler(dimod.Sampler, dimod.Initialized):
    """Tabu search that always makes the best flip allowed, from states between two good ones.

    A flip changes the energy by a number that is kept for every variable and updated by one row of the couplings:
    vectorised over a dense matrix, by neighbours over a sparse one (less than a tenth of all couplings). A variable
    just flipped is tabu for about n / 100 flips unless it leads below the best. When ``patience`` flips brought
    nothing better, the search starts again between two of the eight best states, at a random third to two thirds of
    the way.

    Source: Y. Wang, Z. Lü, F. Glover, J.-K. Hao, "Path relinking for unconstrained binary quadratic programming",
    European Journal of Operational Research 223(3), 2012; the tabu search is that of F. Glover, Z. Lü, J.-K. Hao,
    "Diversification-driven tabu search for unconstrained binary quadratic problems", 4OR 8(3), 2010.

    Example:
        >>> import dimod
        >>> bqm = dimod.BinaryQuadraticModel({"a": 1, "b": -1}, {("a", "b"): -2, ("b", "c"): 1}, 0.0, "SPIN")
        >>> float(OneFlipTabuSampler().sample(bqm, seed=0).first.energy)
        -3.0
    """

    parameters: ClassVar[dict[str, list[str]]] = listed(
        "num_reads", "seed", "time_limit", "num_restarts", "tenure", "patience", "initial_states"
    )
    properties: ClassVar[dict[str, Any]] = {"method": METHOD, "elite": ELITE}

    def sample(
        self,
        bqm: Any,
        *,
        num_reads: int | None = None,
        seed: int | None = None,
        time_limit: float | None = None,
        num_restarts: int = 100,
        tenure: int | None = None,
        patience: int | None = None,
        initial_states: Any = None,
        **kwargs: Any,
    ) -> dimod.SampleSet:
        """The best state of each of ``num_reads`` independent searches.

        Args:
            bqm: any `dimod.BinaryQuadraticModel`.
            num_reads: searches; by default as many as there are initial states, at least 1.
            seed: same seed, same samples, where no time limit cuts; by default a new one.
            time_limit: seconds of search for all reads together, an equal share for each; by default none. Reading the
                model comes before, the first time on a machine also some seconds of compiling.
            num_restarts: tabu searches of a read, 1 or more.
            tenure: flips for which a variable is tabu, up to 10 more by chance, 0 or more; by default n / 100.
            patience: flips without anything better that end a tabu search, 1 or more; by default 5 n, at least 500.
            initial_states: where the reads begin, as `dimod.as_samples` reads it; the rest begin at random.
            **kwargs: of other samplers; ignored with a warning.

        Returns:
            One sample a read, with ``info``: method, seconds, flips, restarts, improvements (the seconds and the energy
            whenever a search ended lower than all before).

        Raises:
            SamplerError: a bias is not a finite number, or an argument is out of its range.
        """
        self.remove_unknown_kwargs(**kwargs)
        total, seeds = clock(time_limit), sequence(seed)
        reads = None if num_reads is None else whole("num_reads", num_reads, 1)
        restarts = whole("num_restarts", num_restarts, 1)
        model = read(bqm)
        n = len(model)
        tabu = min(max(n // 100, 1) if tenure is None else whole("tenure", tenure, 0), max(n - 1, 0) // 2)
        stall = max(5 * n, 500) if patience is None else whole("patience", patience, 1)
        if n == 0:
            return empty_set(bqm, method=METHOD, seconds=total.seconds)
        starts = given_states(self, bqm, initial_states, reads, int(seeds.generate_state(1)[0]))
        couplings = model.kept(lay_out)
        _compile(couplings.matrix is not None, couplings.dtype is np.float32)
        time = clock(time_limit)
        rules = Rules(tabu, min(10, n // 4), stall, restarts)
        found, improvements = [], Improvements(total)
        for at, start in enumerate(starts):
            found.append(_search(couplings, start, rules, time.part(len(starts) - at), seeds, improvements))
        return sample_set(
            bqm,
            model,
            np.array([one.best for one in found]),
            method=METHOD,
            seconds=total.seconds,
            flips=sum(one.flips for one in found),
            restarts=sum(one.restarts for one in found),
            improvements=improvements.met,
        )


@dataclass(frozen=True)
class Rules:
    """How one read searches: tabu for ``tenure`` to ``tenure + spread`` flips, ``patience``, number of restarts."""

    tenure: int
    spread: int
    patience: int
    restarts: int


@dataclass
class Elite:
    """The best states met, best first, no two alike."""

    energies: list[float] = field(default_factory=list)
    states: list[Bits] = field(default_factory=list)
    flips: int = 0
    restarts: int = 0

    @property
    def best(self) -> Bits:
        """The best state, (n,)."""
        return self.states[0]

    def offer(self, energy: float, state: Bits) -> None:
        """Take ``state`` in, and drop the worst of too many."""
        if any(np.array_equal(state, known) for known in self.states):
            return
        at = int(np.searchsorted(self.energies, energy, side="right"))
        self.energies.insert(at, energy)
        self.states.insert(at, state)
        del self.energies[ELITE:], self.states[ELITE:]


def _search(
    couplings: Couplings,
    start: Bits,
    rules: Rules,
    time: Clock,
    seeds: np.random.SeedSequence,
    improvements: Improvements,
) -> Elite:
    """One read: tabu searches from ``start``, then from random states, then between elite ones."""
    rng, random = np.random.default_rng(seeds.spawn(1)[0]), stream(seeds)
    elite, state, n = Elite(), start, len(start)
    chunk = max(_CHUNK // n, 1)
    for restart in itertools.count(1):
        walk = couplings.begin(state, random)
        while not couplings.search(walk, rules.tenure, rules.spread, rules.patience, chunk) and not time.over:
            improvements.offer(couplings.energy(walk))
        improvements.offer(couplings.energy(walk))
        elite.offer(float(walk.energy[1]), bits_of(walk.best, n))
        elite.flips, elite.restarts = elite.flips + int(walk.iteration[0]), restart
        if restart == rules.restarts or time.over:
            return elite
        state = _next_start(couplings, elite, restart, rng, random)
    raise AssertionError("unreachable")


def _next_start(couplings: Couplings, elite: Elite, restart: int, rng: np.random.Generator, random: Any) -> Bits:
    """Random until the elite is full, then between two of it; where these are too close, a third of one is shuffled."""
    n = len(elite.best)
    if restart < ELITE:
        return rng.integers(0, 2, n, dtype=np.int8)
    if len(elite.states) > 1:
        a, b = rng.choice(len(elite.states), 2, replace=False)
        apart = int(np.count_nonzero(elite.states[a] != elite.states[b]))
        if apart >= max(10, n // 100):
            steps = int(rng.integers(apart // 3, 2 * apart // 3 + 1))
            return couplings.between(elite.states[a], elite.states[b], steps, random)
    shuffled = elite.states[int(rng.integers(len(elite.states)))].copy()
    chosen = rng.choice(n, max(n // 3, 1), replace=False)
    shuffled[chosen] ^= rng.integers(0, 2, len(chosen), dtype=np.int8)
    return shuffled


@cache
def _compile(dense: bool, single: bool) -> None:
    """Compile the loops (or load them from the cache) for these couplings, so that time limits measure searching."""
    last = 1.0 if single else 1.0 / 3.0
    tails, weights = (np.array([1]), np.array([1.0])) if dense else (np.zeros(0, np.int64), np.zeros(0))
    model = Model([0, 1, 2], False, np.array([1.0, 1.0, last]), 0 * tails, tails, weights, 0.0)
    couplings, random, zeros = lay_out(model), stream(np.random.SeedSequence(0)), np.zeros(3, np.int8)
    couplings.search(couplings.begin(zeros, random), 0, 0, 1, 2)
    couplings.between(zeros, zeros + 1, 1, random)
