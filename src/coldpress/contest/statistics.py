"""What runs say of a contestant: gaps, success, time to target, and how its reads are spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from coldpress.contest.attempt import ROUNDING
from coldpress.solvers import relative_gap

Floats = NDArray[np.float64]
Facts = Mapping[str, Any]
Z = 1.959963984540054
"""Of the normal distribution, for 95 %."""
GRID = 60
"""Points of an anytime curve."""
READS = 400
"""Gaps of reads that a row holds."""
QUARTILES = (25, 50, 75)
WORSE: Literal["higher"] = "higher"
"""Between two runs a quartile is the worse one's value: a mean with one that found nothing would be infinite."""


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927).

    >>> [round(end, 3) for end in wilson(10, 10)]
    [0.722, 1.0]
    """
    if trials == 0:
        return 0.0, 1.0
    share, width = successes / trials, Z * Z / trials
    middle = (share + width / 2) / (1 + width)
    half = Z * math.sqrt(share * (1 - share) / trials + width / (4 * trials)) / (1 + width)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def hit_time(facts: Facts, target: float) -> float:
    """Seconds until a run was at ``target`` or below; +inf when it never was."""
    return next((float(seconds) for seconds, energy in facts.get("trace", ()) if energy <= target), math.inf)


def hit_evaluations(facts: Facts, target: float) -> float | None:
    """Plans evaluated until a run was at ``target`` or below, +inf when it never was; None where none were counted."""
    counts = facts.get("evaluations")
    if not counts:
        return None
    return next((float(count) for count, (_, energy) in zip(counts, facts["trace"]) if energy <= target), math.inf)


def time_to_solution(hits: Sequence[float], certainty: float = 0.99) -> float:
    """Seconds until one of repeated runs is at the target, with this certainty: the least over their lengths.

    Runs of length t that are successful with probability p are repeated log(1 - certainty) / log(1 - p) times, at
    least once (Rønnow et al., Science 345, 2014). +inf when no run was successful.

    >>> time_to_solution([1.0, 1.0])
    1.0
    """
    best = math.inf
    for length in {hit for hit in hits if math.isfinite(hit)}:
        share = sum(hit <= length for hit in hits) / len(hits)
        repeats = 1.0 if share == 1.0 else max(1.0, math.log(1.0 - certainty) / math.log(1.0 - share))
        best = min(best, length * repeats)
    return best


def targets(runs: Sequence[Facts], within: float) -> tuple[float, float, float | None]:
    """The best energy that any run of one instance met, what counts as success, and the highest proven bound.

    Within 0 the best itself counts, and what differs from it by rounding alone.
    """
    best = min((run["energy"] for run in runs if run.get("energy") is not None), default=math.inf)
    bounds = [run["bound"] for run in runs if run.get("bound") is not None]
    return best, best + max(within, ROUNDING) * abs(best), max(bounds, default=None)


def gap(energy: float | None, reference: float) -> float:
    """How far above a reference an energy lies, relative to the reference; +inf where there is none."""
    if energy is None or not math.isfinite(reference):
        return math.inf
    return max(energy - reference, 0.0) / max(abs(reference), 1e-12)


def _proven(energy: float | None, bound: float) -> float:
    """How far above a bound an energy is at most, relative to the energy: as solvers tell it."""
    return math.inf if energy is None else relative_gap(energy, bound)


def anytime(runs: Sequence[Facts], best: Sequence[float], times: Floats) -> Floats:
    """Quartiles (3, times) of the gaps to best over runs, at each of some seconds; +inf where too few have found any.

    Args:
        runs: of one contestant.
        best: for each run, the best energy known of its instance.
        times: seconds, ascending.
    """
    gaps = np.full((len(runs), len(times)), math.inf)
    for row, run, reference in zip(gaps, runs, best):
        for seconds, energy in run["trace"]:
            row[times >= seconds] = gap(energy, reference)
    return np.asarray(np.percentile(gaps, QUARTILES, axis=0, method=WORSE))


def summary(facts: Sequence[Facts], bounds: Mapping[tuple[str, int], float], within: float) -> list[dict[str, Any]]:
    """One row for each family and contestant, over all its instances and seeds; a best known energy is of all runs.

    Args:
        facts: of all runs.
        bounds: of instances, that are proven without a run.
        within: relative distance from the best known energy that counts as success.
    """
    played = [run for run in facts if "refused" not in run]
    of_instance: dict[tuple[str, int], list[Facts]] = {}
    for run in played:
        of_instance.setdefault((run["family"], run["instance"]), []).append(run)
    known = {}
    for key, runs in of_instance.items():
        best, target, bound = targets(runs, within)
        proven = [value for value in (bound, bounds.get(key)) if value is not None]
        known[key] = best, target, max(proven, default=None)
    groups: dict[tuple[str, str], list[Facts]] = {}
    for run in played:
        groups.setdefault((run["family"], run["solver"]), []).append(run)
    return [_row(family, solver, runs, known, within) for (family, solver), runs in groups.items()]


def _row(
    family: str,
    solver: str,
    runs: Sequence[Facts],
    known: Mapping[tuple[str, int], tuple[float, float, float | None]],
    within: float,
) -> dict[str, Any]:
    keys = [(run["family"], run["instance"]) for run in runs]
    best = [known[key][0] for key in keys]
    hits = [hit_time(run, known[key][1]) for run, key in zip(runs, keys)]
    counts = [hit_evaluations(run, known[key][1]) for run, key in zip(runs, keys)]
    counted = [count for count in counts if count is not None]
    totals = [run["evaluations"][-1] for run in runs if run.get("evaluations")]
    successes = sum(math.isfinite(hit) for hit in hits)
    bounds = [known[key][2] for key in keys]
    to_bound = [_proven(run["energy"], bound) for run, bound in zip(runs, bounds) if bound is not None]
    limit = float(runs[0]["seconds"])
    times = np.geomspace(limit / 1000, limit, GRID)
    more = [run["more"] for run in runs if run.get("more")]
    return {
        "family": family,
        "solver": solver,
        "runs": len(runs),
        "seconds": limit,
        "within": within,
        "gap_to_best": _quartiles([gap(run["energy"], energy) for run, energy in zip(runs, best)]),
        "gap_to_bound": _quartiles(to_bound) if len(to_bound) == len(runs) else None,
        "successes": successes,
        "success_interval": wilson(successes, len(runs)),
        "time_to_target": _finite(float(np.percentile(hits, 50, method=WORSE))),
        "evaluations_to_target": _finite(float(np.percentile(counted, 50, method=WORSE))) if counted else None,
        "evaluations": float(np.median(totals)) if totals else None,
        "time_to_solution": _finite(time_to_solution(hits)),
        "took": float(np.median([run["took"] for run in runs])),
        "anytime": [[_finite(value) for value in row] for row in anytime(runs, best, times).tolist()],
        "times": times.tolist(),
        "reads": sum(run["reads"] for run in runs),
        "read_gaps": _thinned([gap(energy, one) for run, one in zip(runs, best) for energy in run["energies"]]),
        "distinct_share": _mean([run["distinct"] / run["reads"] for run in runs if run["reads"] > 1]),
        "distance": _mean([run["distance"] for run in runs if run["distance"] is not None]),
        "distance_of_best": _between(runs),
        "more": {name: float(np.mean([one[name] for one in more])) for name in (more[0] if more else ())},
    }


def _between(runs: Sequence[Facts]) -> float | None:
    """Mean share of entries in which the best states of two seeds differ, instance by instance."""
    shares = []
    of_instance: dict[int, list[NDArray[Any]]] = {}
    for run in runs:
        if run["best"] is not None:
            of_instance.setdefault(run["instance"], []).append(np.array(list(run["best"])))
    for states in of_instance.values():
        shares += [float((a != b).mean()) for i, a in enumerate(states) for b in states[i + 1 :]]
    return _mean(shares)


def _thinned(values: Sequence[float], most: int = READS) -> list[float]:
    """Values in order; of more than ``most`` so many, evenly spaced by rank."""
    ranked = np.sort(np.asarray(values, dtype=np.float64))
    if len(ranked) > most:
        ranked = ranked[np.linspace(0, len(ranked) - 1, most).round().astype(int)]
    return [float(value) for value in ranked]


def _quartiles(values: Sequence[float]) -> list[float | None]:
    return [_finite(float(np.percentile(values, q, method=WORSE))) for q in QUARTILES]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _finite(value: float) -> float | None:
    """None for infinity, which JSON does not have."""
    return value if math.isfinite(value) else None
