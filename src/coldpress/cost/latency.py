"""Latency from a table of measured layers: kept on disk by device, interpolated where widths are many."""

from __future__ import annotations

import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from coldpress.cost.bench import Bench
from coldpress.cost.devices import cache_folder
from coldpress.cost.factors import layer_cost, rank_pays
from coldpress.cost.interpolate import Family
from coldpress.plan import LayerShape, Space
from coldpress.problem import Cost
from coldpress.runtime.devices import Device, device

log = logging.getLogger("coldpress.cost")

FORMAT = 1
REPEATS = 40
# One graph holds at most this much, so that its layers meet caches about as full as a network's do.
GRAPH_LAYERS = 24
GRAPH_BYTES = 64 << 20

Progress = Callable[[int, int], None]


class LatencyTable:
    """Measured seconds of dense layers on this device; factorised layers are sums of their factors.

    Args:
        folder: where the table is kept; by default the environment's COLDPRESS_CACHE, else ~/.cache/coldpress.
        threads: threads within one operator.
        batch: samples in one run.
        profile: the device; another one than this can be read, not measured.
    """

    def __init__(
        self, folder: str | Path | None = None, *, threads: int = 1, batch: int = 1, profile: Device | None = None
    ) -> None:
        self.device = profile or device(threads)
        self.threads, self.batch = threads, batch
        self.path = Path(folder or cache_folder()) / f"latency-{self.device.fingerprint}-batch{batch}.json"
        self._seconds = self._read()
        self._families: dict[LayerShape, Family] = {}
        self._known: dict[LayerShape, float] = {}

    def __len__(self) -> int:
        return len(self._seconds)

    def __contains__(self, shape: LayerShape) -> bool:
        return all(_key(part) in self._seconds for part in shape.factors())

    def seconds(self, shape: LayerShape) -> float:
        """Seconds of one layer: measured, or interpolated between measured widths of its like.

        Raises:
            KeyError: nothing like it was measured; call ``measure`` first.
        """
        found = self._known.get(shape)
        if found is None:
            found = self._known[shape] = sum(self._part(part) for part in shape.factors())
        return found

    def measure(
        self, shapes: Iterable[LayerShape], *, limit_seconds: float = 120.0, progress: Progress | None = None
    ) -> int:
        """Measure what the table does not hold yet, coarse widths first, and save it.

        Args:
            shapes: layers that will be asked for; repeats do no harm.
            limit_seconds: stop then (the coarsest grid of widths is always measured); what is left is interpolated.
            progress: called with layers done and layers in all.

        Returns:
            How many layers were measured.
        """
        start = time.perf_counter()
        waiting = _ordered({_plain(part) for shape in shapes for part in shape.factors()}, set(self._seconds))
        total = sum(len(level) for level in waiting)
        done = 0
        try:
            for number, level in enumerate(waiting):
                for chunk in _chunks(level):
                    if number and time.perf_counter() - start > limit_seconds:
                        log.info("measured %d of %d layers in the time allowed; others are interpolated", done, total)
                        return done
                    self._measure(chunk)
                    done += len(chunk)
                    if progress is not None:
                        progress(done, total)
        finally:
            if done:
                self.save()
        return done

    def save(self) -> Path:
        """Write the table, joined with what another process may have saved meanwhile; written beside and renamed."""
        self._seconds = {**self._read(), **self._seconds}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        data = {"coldpress_latency": FORMAT, "device": self.device.summary(), "seconds": self._seconds}
        beside.write_text(json.dumps(data, indent=0))
        beside.replace(self.path)
        return self.path

    def _measure(self, shapes: Sequence[LayerShape]) -> None:
        bench = Bench(shapes, threads=self.threads, batch=self.batch)
        bench.run(REPEATS + 2)
        for shape, value in zip(shapes, bench.close()):
            if np.isfinite(value):
                self._seconds[_key(shape)] = value
            else:
                log.warning("the runtime's profile does not show %s; it is interpolated", _key(shape))
        self._families.clear()
        self._known.clear()

    def _part(self, shape: LayerShape) -> float:
        exact = self._seconds.get(_key(shape))
        if exact is not None:
            return exact
        if not self._families:
            grouped: dict[LayerShape, dict[tuple[int, int], float]] = defaultdict(dict)
            for key, value in self._seconds.items():
                like = _shape(key)
                grouped[_family(like)][like.in_channels, like.out_channels] = value
            self._families = {family: Family(points) for family, points in grouped.items()}
        family = self._families.get(_family(shape))
        if family is None:
            raise KeyError(f"no layer like {_key(shape)} was measured on this device; call measure() first")
        return family.at(shape.in_channels, shape.out_channels)

    def _read(self) -> dict[str, float]:
        try:
            data = json.loads(self.path.read_text())
            if data["coldpress_latency"] != FORMAT:
                return {}
            found = {str(key): float(value) for key, value in data["seconds"].items()}
            for key in found:
                _shape(key)
            return found
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("the latency table %s is damaged (%s); it is measured anew", self.path, error)
            return {}


def _plain(shape: LayerShape) -> LayerShape:
    """The layer as the table knows it: every layer adds a bias there, since batch norm folds into one."""
    return replace(shape, bias=True)


def _family(shape: LayerShape) -> LayerShape:
    """What layers have in common that differ in widths alone (grouped ones: channels a group stay)."""
    g = shape.groups
    widths = (0, 0) if g == 1 else (shape.in_channels // g, shape.out_channels // g)
    return replace(shape, in_channels=widths[0], out_channels=widths[1], groups=0 if g > 1 else 1, bias=True)


def _ordered(shapes: set[LayerShape], measured: set[str]) -> list[list[LayerShape]]:
    """Layers not measured yet in levels, each about halving the distance between the widths of a family."""
    families: dict[LayerShape, list[LayerShape]] = defaultdict(list)
    for shape in shapes:
        families[_family(shape)].append(shape)
    levels: dict[int, list[LayerShape]] = defaultdict(list)
    for members in families.values():
        level_in = _levels(sorted({shape.in_channels for shape in members}))
        level_out = _levels(sorted({shape.out_channels for shape in members}))
        for shape in members:
            if _key(shape) not in measured:
                levels[max(level_in[shape.in_channels], level_out[shape.out_channels])].append(shape)
    return [sorted(levels[number], key=_key) for number in sorted(levels)]


def _levels(values: Sequence[int]) -> dict[int, int]:
    """0 for both ends, 1 for the middle, 2 for the quarters, and so on."""
    last = len(values) - 1
    found: dict[int, int] = {}
    step = max(last, 1)
    number = 0
    while len(found) < len(values):
        for i in (*range(0, last + 1, step), last):
            found.setdefault(values[i], number)
        step, number = max(step // 2, 1), number + 1
    return found


def _chunks(shapes: Sequence[LayerShape]) -> Iterable[list[LayerShape]]:
    """Shuffled, so that no one graph is full of the largest; cut by number and by bytes."""
    order = np.random.default_rng(0).permutation(len(shapes))
    chunk: list[LayerShape] = []
    held = 0
    for i in order:
        size = shapes[i].bytes
        if chunk and (len(chunk) == GRAPH_LAYERS or held + size > GRAPH_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(shapes[i])
        held += size
    if chunk:
        yield chunk


def _key(shape: LayerShape) -> str:
    """A dense layer as text, all that decides its time and nothing else."""
    fields: dict[str, Any] = asdict(_plain(shape))
    for name in ("bias", "method", "rank"):
        del fields[name]
    return json.dumps(list(fields.values()))


def _shape(key: str) -> LayerShape:
    kind, ins, outs, *pairs, groups, size, bits = json.loads(key)
    kernel, stride, padding, dilation = (tuple(pair) for pair in pairs)
    return LayerShape(kind, ins, outs, kernel, stride, padding, dilation, groups, tuple(size), bits=bits)


def shapes_of(space: Space) -> set[LayerShape]:
    """Every dense layer that some plan of the space may run, factors included: what ``measure`` needs."""
    found: set[LayerShape] = set()

    def collect(shape: LayerShape) -> float:
        found.update(_plain(part) for part in shape.factors())
        return 0.0

    layer_cost("shapes", space, collect)
    return found


def latency_cost(
    space: Space,
    table: LatencyTable,
    calibration: tuple[float, float] = (1.0, 0.0),
    *,
    slow_bits: bool = False,
) -> Cost:
    """Seconds of one run of the whole model.

    A factorised layer that is predicted to be no faster than the dense one of the same widths is forbidden.

    Args:
        space: units and layers.
        table: measured layers.
        calibration: scale and overhead in seconds, from ``calibrate``.
        slow_bits: whether int8 may be taken where it is predicted slower than fp32 (it is still smaller).
    """
    scale, overhead = calibration

    def allowed(shape: LayerShape) -> bool:
        if not rank_pays(shape):
            return False
        seconds = table.seconds(shape)
        if shape.method != "dense" and seconds >= table.seconds(replace(shape, method="dense", rank=())):
            return False
        return slow_bits or shape.bits == 32 or seconds < table.seconds(replace(shape, bits=32))

    return layer_cost("latency", space, lambda shape: scale * table.seconds(shape), overhead, allowed=allowed)
