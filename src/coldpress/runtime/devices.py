"""What a measured time belongs to: this processor, its instruction sets, this runtime."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

# The instruction sets that choose between the runtime's kernels; other flags do not change a time.
_SETS = (
    *("avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),
)


@dataclass(frozen=True)
class Device:
    """A machine as far as it decides times: ``fingerprint`` changes when times may.

    Attributes:
        processor: model name.
        architecture: "x86_64", "aarch64", ...
        cores: logical cores that this process may use.
        instruction_sets: those that the runtime's kernels are chosen by.
        runtime: name and version.
        threads: threads within one operator.
    """

    processor: str
    architecture: str
    cores: int
    instruction_sets: tuple[str, ...]
    runtime: str
    threads: int

    @property
    def fingerprint(self) -> str:
        """12 hexadecimal digits that name this device."""
        return hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()[:12]

    def summary(self) -> dict[str, Any]:
        """Plain data for metrics.json."""
        return {**asdict(self), "instruction_sets": list(self.instruction_sets), "fingerprint": self.fingerprint}


def device(threads: int = 1) -> Device:
    """The machine that this process runs on, used with ``threads`` threads."""
    info = _cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return Device(
        processor=info.get("model name") or platform.processor() or platform.machine(),
        architecture=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        instruction_sets=tuple(name for name in _SETS if name in flags),
        runtime=f"onnxruntime {ort.__version__}",
        threads=threads,
    )


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; empty where there is none."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    lines = text.split("\n\n", 1)[0].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
