"""Machines that are not at hand: times from public figures, by a roofline of compute, memory and launches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod

from coldpress.cost.grid import plain
from coldpress.cost.operators import Operator
from coldpress.cost.table import LatencyTable, Progress
from coldpress.errors import TaskError
from coldpress.layer_shape import LayerShape
from coldpress.names import meant
from coldpress.runtime.devices import device

HOST = "host"
KERNELS = 0.6
"""The share of the peak that good kernels reach on layers of ordinary size."""


@dataclass(frozen=True)
class Profile:
    """One core of a processor, by public figures.

    Attributes:
        title: what it is.
        cores: how many of them there are.
        ghz: clock.
        fp32: multiply-accumulates a cycle in fp32.
        int8: the same in int8; where it has no dot product, what widening arithmetic gives.
        cache: bytes of the caches that hold weights from one run to the next.
        near: GB/s out of the caches, a core.
        far: GB/s out of memory that one core reaches.
        launch: microseconds that the runtime spends around one operator.
        source: where the figures are from.
    """

    title: str
    cores: int
    ghz: float
    fp32: float
    int8: float
    cache: int
    near: float
    far: float
    launch: float
    source: str


ARM = "Arm's software optimization guide of the core"
PROFILES: dict[str, Profile] = {
    "rpi4": Profile(
        "Raspberry Pi 4 (Cortex-A72)",
        *(4, 1.8, 4.0, 8.0, 1 << 20, 12.0, 3.5, 15.0),
        f"{ARM}; BCM2711: 1 MB L2, LPDDR4-3200; no dot product (Armv8.0)",
    ),
    "rpi5": Profile(
        "Raspberry Pi 5 (Cortex-A76)",
        *(4, 2.4, 8.0, 32.0, 5 << 19, 30.0, 9.0, 6.0),
        f"{ARM}; BCM2712: 512 KB L2 a core, 2 MB L3, LPDDR4X-4267, 17 GB/s at most; int8 dot product",
    ),
    "jetson-nano": Profile(
        "Jetson Nano, its processor (Cortex-A57)",
        *(4, 1.43, 4.0, 8.0, 2 << 20, 10.0, 6.0, 18.0),
        f"{ARM}; NVIDIA's data sheet: 2 MB L2, LPDDR4, 25.6 GB/s at most; no dot product (Armv8.0)",
    ),
    "phone-big": Profile(
        "a phone's big core (Cortex-X3)",
        *(1, 3.2, 16.0, 64.0, 8 << 20, 80.0, 25.0, 4.0),
        f"{ARM}: four 128-bit pipes, dot product; 1 MB L2, 8 MB L3, LPDDR5X",
    ),
    "cloud-small": Profile(
        "a small cloud core (Neoverse N1)",
        *(1, 2.5, 8.0, 32.0, 2 << 20, 40.0, 15.0, 5.0),
        f"{ARM}: two 128-bit pipes, dot product; 1 MB L2 and a share of L3, DDR4-3200",
    ),
}


class ModelledTable:
    """Seconds of layers and networks on a machine that is not here; takes the place of `LatencyTable`.

    An operator takes the longer of its multiply-accumulates at the reachable peak and its bytes at the bandwidth of
    where they lie, and a launch. ``coldpress devices`` says how far that is off where times were measured too.

    Args:
        profile: the machine.
        threads: threads within one operator; more than it has cores do not help.
        batch: samples in one run.
    """

    def __init__(self, profile: Profile, *, threads: int = 1, batch: int = 1) -> None:
        self.profile, self.threads, self.batch = profile, threads, batch

    def seconds(self, shape: LayerShape) -> float:
        """Seconds of a layer's calls, the sum over its factors; nothing for a look-up."""
        return shape.calls * sum(self._part(plain(part)) for part in shape.factors() if part.kind != "embedding")

    def network(self, operators: Mapping[Operator, int]) -> float:
        """Seconds of one run of a whole network: of each operator as often as it is run, see `operators_of`."""
        return sum(times * self._operator(operator) for operator, times in operators.items())

    def switch(self, elements: int) -> float:
        """Seconds to go from floats to int8 or back at a tensor of ``elements``."""
        return 5.0 * elements * self.batch / (self.profile.near * 1e9) + self.profile.launch * 1e-6

    def measure(
        self, shapes: Iterable[LayerShape], *, limit_seconds: float = 0.0, progress: Progress | None = None
    ) -> int:
        """Nothing is measured: 0."""
        return 0

    def _part(self, shape: LayerShape) -> float:
        width = 1 if shape.bits == 8 else 4
        weights = width * shape.weights
        reads, writes = (6, 4) if shape.dynamic else (width, width)  # floats are read, rounded, and read again
        inputs, outputs = shape.in_channels * prod(shape.input_size), shape.out_channels * prod(shape.output_size)
        activations = self.batch * (reads * inputs + writes * outputs)
        return self._operator(Operator(self.batch * shape.macs, weights, activations, shape.bits))

    def _operator(self, operator: Operator) -> float:
        macs, weights, activations, bits = operator
        machine, cores = self.profile, min(self.threads, self.profile.cores)
        rate = KERNELS * (machine.int8 if bits == 8 else machine.fp32) * machine.ghz * 1e9 * cores
        moved = weights / (machine.far if weights > machine.cache / 2 else machine.near)
        moved += activations / (machine.far if activations > machine.cache else machine.near)
        return max(macs / rate, moved / 1e9) + machine.launch * 1e-6


Table = LatencyTable | ModelledTable


def table_for(name: str, threads: int, batch: int) -> Table:
    """The table of a device: measured for "host", modelled for a profile. Raises TaskError for an unknown name."""
    if name == HOST:
        return LatencyTable(threads=threads, batch=batch)
    return ModelledTable(profile(name), threads=threads, batch=batch)


def profile(name: str) -> Profile:
    """The profile called ``name``. Raises TaskError, with the near ones, when there is none."""
    if name not in PROFILES:
        known = (HOST, *PROFILES)
        raise TaskError(f"no device is called {name!r}; there are: {', '.join(known)}{meant(name, known)}")
    return PROFILES[name]


def host_as_unknown() -> Profile:
    """This machine, from what its maker says of such processors alone; only to see how far the model is off."""
    here = device(1)
    sets = set(here.instruction_sets)
    lanes = 32.0 if "avx512f" in sets else 16.0 if "avx2" in sets else 8.0
    dots = 4 * lanes if sets & {"avx512_vnni", "avx_vnni", "asimddp"} else 2 * lanes
    source = "its instruction sets; 3 GHz, two vector pipes, 15 GB/s a core assumed"
    return Profile(here.processor, here.cores, 3.0, lanes, dots, 16 << 20, 60.0, 15.0, 3.0, source)
