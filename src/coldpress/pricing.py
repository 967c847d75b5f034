"""What plans of a space cost on this machine: exact bytes and MACs, and latency from a measured, calibrated table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from coldpress.cost.calibration import calibrate
from coldpress.cost.latency import int8_pays, latency_cost, seconds_of, shapes_of
from coldpress.cost.learned import learned
from coldpress.cost.macs import macs_cost
from coldpress.cost.profiles import ModelledTable, Table
from coldpress.cost.size import size_cost
from coldpress.layer_shape import LayerShape
from coldpress.plan import Space
from coldpress.problem import Cost
from coldpress.space.layers import count_macs
from coldpress.structures import ORIGINAL, Choices, Measured, Progress, half_width, measure_structures
from coldpress.task import Task


@dataclass
class Prices:
    """The costs of a space's plans, corrected by every whole network that is measured.

    Attributes:
        space: the space.
        table: measured layers; None where latency does not matter.
        points: measured whole networks: choices, predicted sum of layers and measured seconds.
        extra_bytes: bytes of the file that are in no layer.
        extra_macs: of layers that are run at several sizes, on which nothing is decided.
        seconds: one run of the original, measured.
        calibration: scale and overhead (seconds) from layers to the whole network.
        slow_bits: whether int8 may be taken where it is slower.
        seen: plans whose network was measured while planning: choices and seconds; see `learned`.
    """

    space: Space
    table: Table | None
    extra_bytes: float
    extra_macs: float = 0.0
    slow_bits: bool = False
    calibration: tuple[float, float] = (1.0, 0.0)
    points: list[tuple[dict[str, str], float, float]] = field(default_factory=list)
    seconds: float | None = None
    seen: list[tuple[dict[str, str], float]] = field(default_factory=list)
    _made: dict[tuple[object, ...], Cost] = field(default_factory=dict, init=False, repr=False)

    def costs(self) -> dict[str, Cost]:
        """The costs by quantity: "size" (bytes), "macs", and "latency" (seconds) where it was measured."""
        space, table = self.space, self.table
        found = {
            "size": _plus(self._once(("size",), lambda: size_cost(space, 0.0)), self.extra_bytes),
            "macs": _plus(self._once(("macs",), lambda: macs_cost(space, 0.0)), self.extra_macs),
        }
        if table is not None:
            predicted = self._once(
                ("latency", self.calibration, self.slow_bits, 0 if isinstance(table, ModelledTable) else len(table)),
                lambda: latency_cost(space, table, self.calibration, slow_bits=self.slow_bits),
            )
            plans = [self.space.indices(choices) for choices, _ in self.seen]
            found["latency"] = learned(predicted, plans, [seconds for _, seconds in self.seen])
        return found

    def _once(self, key: tuple[object, ...], make: Callable[[], Cost]) -> Cost:
        """A cost, made only once of the same numbers: its tables may be large."""
        if key not in self._made:
            self._made = {known: cost for known, cost in self._made.items() if known[0] != key[0]} | {key: make()}
        return self._made[key]

    def layers_sum(self, choices: Choices) -> float:
        """Uncalibrated sum of layer times and of the changes between int8 and floats, seconds."""
        assert self.table is not None
        cost = latency_cost(self.space, self.table, slow_bits=True)
        return cost.value(self.space.indices(choices))

    def learn(self, choices: Choices, seconds: float) -> None:
        """Take in a measured network."""
        self.points.append((dict(choices), self.layers_sum(choices), seconds))
        self.calibration = calibrate([p for _, p, _ in self.points], [s for _, _, s in self.points])

    def refused(self) -> dict[str, str]:
        """Options that are not offered because they measure slower than leaving the layer as it is, with the times."""
        if self.table is None:
            return {}
        found: dict[str, str] = {}
        units = self.space.units
        for site in self.space.sites:
            if site.shape.kind == "embedding":
                continue
            dense = self.table.seconds(site.shape)
            for option in units[site.bits].options[1:] if site.bits is not None else ():
                rounded = replace(site.shape, bits=option.bits, dynamic=option.dynamic)
                if not self.slow_bits and not int8_pays(self.table, rounded):
                    seconds = seconds_of(self.table, rounded)
                    found[f"{site.name} in {option.label}"] = (
                        f"measures {seconds * 1e6:.0f} us, in fp32 {dense * 1e6:.0f} us"
                    )
            for option in units[site.rank].options[1:] if site.rank is not None else ():
                seconds = self.table.seconds(replace(site.shape, method=option.method, rank=option.rank))
                if seconds >= dense:
                    found[f"{site.name} as {option.label}"] = (
                        f"measures {seconds * 1e6:.0f} us, whole {dense * 1e6:.0f} us"
                    )
        return found


def _plus(cost: Cost, constant: float) -> Cost:
    return replace(cost, constant=cost.constant + constant)


def price(
    task: Task,
    space: Space,
    *,
    table: Table | None = None,
    slow_bits: bool = False,
    measure_seconds: float = 120.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Prices, Measured]:
    """Measure what is needed to price the plans of a space.

    Args:
        task: the model.
        space: its space.
        table: of layer times; None where times are not needed: then only the file is weighed.
        slow_bits: whether int8 may be taken where it is slower.
        measure_seconds: limit on the measuring of layers; what is left then is interpolated.
        seed: of the order of measurement.
        progress: called with (done, in all).

    Returns:
        The prices, and the original as measured.
    """
    if table is not None:
        table.measure(shapes_of(space), limit_seconds=measure_seconds, progress=progress)
    whole: dict[str, Choices] = {ORIGINAL: {}}
    if table is not None:
        whole["half"] = half_width(space)
        rounded = {unit.name: unit.options[1].label for unit in space.units if unit.kind == "bits"}
        if rounded:
            whole |= {"int8": rounded, "half int8": {**whole["half"], **rounded}}
    found = measure_structures(task, space, whole, table=table, seed=seed)
    stored = sum(site.shape.bytes for site in space.sites)
    prices = Prices(space, table, found[ORIGINAL].bytes - stored, extra_macs(task, space), slow_bits)
    prices.seconds = found[ORIGINAL].seconds
    for name, chosen in whole.items():
        seconds = found[name].seconds
        if seconds is not None:
            prices.learn(chosen, seconds)
    return prices, found[ORIGINAL]


def extra_macs(task: Task, space: Space) -> float:
    """Multiply-accumulates of layers that are not among the space's."""
    return float(count_macs(task.model, task.example_inputs) - sum(site.shape.macs for site in space.sites))


def layer_rows(space: Space, choices: Choices, prices: Prices) -> list[dict[str, object]]:
    """Every layer before and after, for the report."""

    def describe(shape: LayerShape | None) -> dict[str, object] | None:
        if shape is None:
            return None
        ms = seconds_of(prices.table, shape) * prices.calibration[0] * 1e3 if prices.table is not None else None
        return shape_facts(shape) | {"ms": ms}

    return [
        {"name": site.name, "kind": site.shape.kind, "before": describe(site.shape), "after": describe(shape)}
        for site, shape in space.configured(choices)
    ]


def shape_facts(shape: LayerShape) -> dict[str, object]:
    """A layer's shape and what it costs, for the report."""
    return {
        "in": shape.in_channels,
        "out": shape.out_channels,
        "kernel": list(shape.kernel),
        "groups": shape.groups,
        "method": shape.method,
        "rank": list(shape.rank),
        "bits": shape.bits,
        "dynamic": shape.dynamic,
        "calls": shape.calls,
        "macs": shape.macs,
        "bytes": shape.bytes,
    }
