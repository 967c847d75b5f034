"""Latency from a table of measured layers: kept on disk by device, interpolated where widths are many."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from math import prod
from pathlib import Path
from typing import Protocol

import numpy as np

from coldpress.cost.bench import layer_seconds, switch_seconds
from coldpress.cost.devices import cache_folder
from coldpress.cost.grid import chunks, family, key, ordered, plain, shape_of
from coldpress.cost.interpolate import Family
from coldpress.cost.operators import Operator
from coldpress.files import write_text
from coldpress.layer_shape import LayerShape
from coldpress.runtime.devices import Device, device

log = logging.getLogger("coldpress.cost")

FORMAT = 1
# Several visits at different times, since a machine is slow for seconds at a time, of a few runs each.
VISITS = 3
REPEATS = 16
# Tensors (channels, size) at which the change between floats and int8 is measured.
SWITCHES = ((16, (4, 4)), (64, (8, 8)), (64, (16, 16)), (64, (32, 32)))

Progress = Callable[[int, int], None]


class Seconds(Protocol):
    """What tells layer times."""

    def seconds(self, shape: LayerShape) -> float: ...
    def switch(self, elements: int) -> float: ...


class LatencyTable:
    """Measured seconds of dense layers on this device; factorised layers are sums of their factors.

    ``networks`` keeps seconds of whole networks by their structure, so that the same question has the same answer;
    ``operators`` what they consist of, for those measured since it is kept.

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
        self._seconds, self._switches, self.networks, self.operators = self._read()
        self._families: dict[LayerShape, Family] = {}
        self._known: dict[LayerShape, float] = {}

    def __len__(self) -> int:
        return len(self._seconds)

    def __contains__(self, shape: LayerShape) -> bool:
        return all(key(part) in self._seconds for part in shape.factors())

    def seconds(self, shape: LayerShape) -> float:
        """Seconds of a layer's calls: measured, or interpolated between widths of its like; nothing for a look-up.

        Raises:
            KeyError: nothing like it was measured; call ``measure`` first.
        """
        found = self._known.get(shape)
        if found is None:
            parts = [part for part in shape.factors() if part.kind != "embedding"]
            found = self._known[shape] = shape.calls * sum(self._part(part) for part in parts)
        return found

    def measured(self) -> list[tuple[LayerShape, float]]:
        """The layers that were measured, with their seconds."""
        return [(shape_of(text), seconds) for text, seconds in self._seconds.items()]

    def switch(self, elements: int) -> float:
        """Seconds to go from floats to int8 or back at a tensor of ``elements``; 0.0 before int8 was measured."""
        if not self._switches:
            return 0.0
        sizes, values = zip(*sorted(self._switches.items()))
        return float(np.interp(elements, sizes, values)) * max(1.0, elements / sizes[-1])

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
        waiting = ordered({plain(part) for shape in shapes for part in shape.factors()}, set(self._seconds))
        total = sum(len(level) for level in waiting)
        done = 0
        try:
            if not self._switches and any(shape.bits == 8 for level in waiting for shape in level):
                for channels, size in SWITCHES:
                    value = switch_seconds(channels, size, threads=self.threads, batch=self.batch, repeats=REPEATS)
                    self._switches[channels * prod(size)] = value
            for number, level in enumerate(waiting):
                samples: dict[str, list[float]] = defaultdict(list)
                for visit in range(VISITS):
                    for chunk in chunks(level, seed=visit):
                        if number and time.perf_counter() - start > limit_seconds:
                            log.info("measured %d of %d layers in time; the others are interpolated", done, total)
                            return done
                        self._measure(chunk, samples)
                        done += len(chunk) if visit == 0 else 0
                        if progress is not None:
                            progress(done, total)
        finally:
            if done:
                self.save()
        return done

    def save(self) -> Path:
        """Write the table, joined with what another process may have saved meanwhile; written beside and renamed."""
        seconds, switches, networks, operators = self._read()
        self._seconds, self._switches = {**seconds, **self._seconds}, {**switches, **self._switches}
        self.networks, self.operators = {**networks, **self.networks}, {**operators, **self.operators}
        data = {
            "coldpress_latency": FORMAT,
            "device": self.device.summary(),
            "seconds": self._seconds,
            "switches": {str(elements): value for elements, value in self._switches.items()},
            "networks": self.networks,
            "operators": {
                name: [[*operator, times] for operator, times in counted.items()]
                for name, counted in self.operators.items()
            },
        }
        return write_text(self.path, json.dumps(data, indent=0))

    def _measure(self, shapes: Sequence[LayerShape], samples: dict[str, list[float]]) -> None:
        """One more sample of each layer; the table holds the median of all."""
        times = layer_seconds(shapes, threads=self.threads, batch=self.batch, repeats=REPEATS)
        for name, value in zip(map(key, shapes), times):
            if np.isfinite(value):
                samples[name].append(value)
                self._seconds[name] = float(np.median(samples[name]))
            else:
                log.warning("the runtime's profile does not show %s; it is interpolated", name)
        self._families.clear()
        self._known.clear()

    def _part(self, shape: LayerShape) -> float:
        exact = self._seconds.get(key(shape))
        if exact is not None:
            return exact
        if not self._families:
            grouped: dict[LayerShape, dict[tuple[int, int], float]] = defaultdict(dict)
            for name, value in self._seconds.items():
                like = shape_of(name)
                grouped[family(like)][like.in_channels, like.out_channels] = value
            self._families = {like: Family(points) for like, points in grouped.items()}
        found = self._families.get(family(shape))
        if found is None:
            raise KeyError(f"no layer like {key(shape)} was measured on this device; call measure() first")
        return found.at(shape.in_channels, shape.out_channels)

    def _read(self) -> tuple[dict[str, float], dict[int, float], dict[str, float], dict[str, Counter[Operator]]]:
        """What is on disk: seconds of layers, of switches by elements, of networks, and the networks' operators.

        Empty where nothing can be used.
        """
        try:
            data = json.loads(self.path.read_text())
            if data["coldpress_latency"] != FORMAT:
                return {}, {}, {}, {}
            found = {str(name): float(value) for name, value in data["seconds"].items()}
            for name in found:
                shape_of(name)
            switches = {int(elements): float(value) for elements, value in data["switches"].items()}
            networks = {str(name): float(value) for name, value in data.get("networks", {}).items()}
            operators = {
                str(name): Counter({Operator(*map(int, row)): int(times) for *row, times in rows})
                for name, rows in data.get("operators", {}).items()
            }
            return found, switches, networks, operators
        except FileNotFoundError:
            return {}, {}, {}, {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("the latency table %s is damaged (%s); it is measured anew", self.path, error)
            return {}, {}, {}, {}
