"""Times of sessions, fairly: all sides in one run, in random order, until the medians are known well."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Feeds = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Timing:
    """Times of one session, in milliseconds a run.

    Attributes:
        median: middle of the samples.
        spread: interquartile range of the samples.
        batch: samples in one run.
        threads: threads within one operator.
        runtime: name and version.
        repeats: number of runs timed.
        samples: each run's time.
    """

    median: float
    spread: float
    batch: int
    threads: int
    runtime: str
    repeats: int
    samples: tuple[float, ...]

    def summary(self) -> dict[str, Any]:
        """What metrics.json keeps: all but the single samples."""
        kept = ("median", "spread", "batch", "threads", "runtime", "repeats")
        return {name: getattr(self, name) for name in kept}


def time_sessions(
    sessions: Mapping[str, ort.InferenceSession],
    feeds: Feeds | Mapping[str, Feeds],
    *,
    repeats: int | None = None,
    warmup: int = 5,
    precision: float = 0.005,
    max_seconds: float = 30.0,
    seed: int = 0,
) -> dict[str, Timing]:
    """Time sessions against each other, interleaved in one run in random order.

    Args:
        sessions: the sides, by name.
        feeds: input name to array, the same for all sides; or side name to such feeds.
        repeats: runs of each side; None goes on until every median's standard error is below ``precision`` of it.
        warmup: runs of each side before anything is timed.
        precision: relative standard error of the medians that is good enough.
        max_seconds: stop then, however uncertain (at least 20 runs are made).
        seed: of the order.

    Returns:
        Timing by side name.
    """
    own = _feeds_by_side(sessions, feeds)
    for name, side in sessions.items():
        for _ in range(warmup):
            side.run(None, own[name])
    names = list(sessions)
    samples: dict[str, list[float]] = {name: [] for name in names}
    rng = np.random.default_rng(seed)
    start = time.perf_counter()
    done = 0
    while not _enough(samples, done, repeats, precision, time.perf_counter() - start, max_seconds):
        for i in rng.permutation(len(names)):
            name = names[i]
            side, arrays = sessions[name], own[name]
            begin = time.perf_counter_ns()
            side.run(None, arrays)
            samples[name].append((time.perf_counter_ns() - begin) / 1e6)
        done += 1
    return {name: _timing(sessions[name], own[name], samples[name]) for name in names}


def cold(
    running: ort.InferenceSession, feeds: Feeds, *, repeats: int = 30, warmup: int = 3, flush_bytes: int = 64 << 20
) -> Timing:
    """Time one session with the caches emptied between runs, as a layer meets them within a large network.

    Args:
        running: the session.
        feeds: input name to array.
        repeats: runs timed.
        warmup: runs before.
        flush_bytes: size of the buffer that is touched between runs; beyond the last cache level.
    """
    arrays = dict(feeds)
    buffer = np.zeros(flush_bytes // 8)
    for _ in range(warmup):
        running.run(None, arrays)
    samples = []
    for _ in range(repeats):
        buffer += 1.0
        begin = time.perf_counter_ns()
        running.run(None, arrays)
        samples.append((time.perf_counter_ns() - begin) / 1e6)
    return _timing(running, arrays, samples)


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a median from the order of the samples, without an assumption on their distribution.

    It is that of one run: what differs from run to run is not in it.

    >>> median_interval(range(1, 101))
    (40, 61)
    """
    ordered = sorted(samples)
    half, middle = 1.959964 * len(ordered) ** 0.5 / 2, len(ordered) / 2
    return ordered[max(0, round(middle - half) - 1)], ordered[min(len(ordered) - 1, round(middle + half))]


def ratio_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of median(first) / median(second), from those of both (Zou and Donner 2008, of logarithms).

    >>> [round(edge, 3) for edge in ratio_interval(range(101, 202), range(1001, 1102))]
    [0.134, 0.153]
    """
    (a, low_a, high_a), (b, low_b, high_b) = (
        (math.log(np.median(side)), *map(math.log, median_interval(side))) for side in (first, second)
    )
    down, up = math.hypot(a - low_a, high_b - b), math.hypot(high_a - a, b - low_b)
    return math.exp(a - b - down), math.exp(a - b + up)


def _feeds_by_side(
    sessions: Mapping[str, ort.InferenceSession], feeds: Feeds | Mapping[str, Feeds]
) -> dict[str, dict[str, NDArray[Any]]]:
    if not sessions or not feeds:
        raise ValueError("time_sessions needs at least one session and its inputs")
    own = {name: feed for name, feed in feeds.items() if isinstance(feed, Mapping)}
    if len(own) == len(feeds):
        return {name: dict(own[name]) for name in sessions}
    shared = {name: array for name, array in feeds.items() if not isinstance(array, Mapping)}
    return {name: dict(shared) for name in sessions}


def _enough(
    samples: Mapping[str, list[float]],
    done: int,
    repeats: int | None,
    precision: float,
    elapsed: float,
    max_seconds: float,
) -> bool:
    if repeats is not None:
        return done >= repeats
    if done < 20:
        return False
    if elapsed > max_seconds:
        return True
    # Checked now and then only: sorting all samples at every run would warm other things than the sessions do.
    return done % 20 == 0 and all(_error(np.asarray(times)) < precision for times in samples.values())


def _error(times: NDArray[np.float64]) -> float:
    """Relative standard error of the median, from the order statistics (no assumption on the distribution)."""
    ordered = np.sort(times)
    half = max(1, round(np.sqrt(len(ordered)) / 2))
    middle = len(ordered) // 2
    low, high = ordered[max(0, middle - half)], ordered[min(len(ordered) - 1, middle + half)]
    return float((high - low) / 2 / ordered[middle])


def _timing(running: ort.InferenceSession, feeds: Feeds, samples: list[float]) -> Timing:
    q1, median, q3 = np.percentile(samples, [25, 50, 75])
    first = next(iter(feeds.values()))
    return Timing(
        median=float(median),
        spread=float(q3 - q1),
        batch=int(first.shape[0]) if first.ndim else 1,
        threads=int(running.get_session_options().intra_op_num_threads),
        runtime=f"onnxruntime {ort.__version__}",
        repeats=len(samples),
        samples=tuple(samples),
    )
