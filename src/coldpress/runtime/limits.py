"""Running a file under a memory limit, in a process of its own, as a small machine would have to."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from coldpress.errors import BudgetError, ExportError

CHILD = """
import json, resource, sys, time
model, inputs, threads, memory = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if memory:
    resource.setrlimit(resource.RLIMIT_DATA, (memory,) * 2)
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = threads
options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
arrays = np.load(inputs)
feeds = {node.name: arrays[f"arr_{i}"] for i, node in enumerate(session.get_inputs())}
for _ in range(3):
    session.run(None, feeds)
samples, start = [], time.perf_counter()
while len(samples) < 5 or (len(samples) < 200 and time.perf_counter() - start < 2):
    begin = time.perf_counter()
    session.run(None, feeds)
    samples.append(1e3 * (time.perf_counter() - begin))
kilobytes = dict(line.split()[:2] for line in open("/proc/self/status") if line.startswith(("VmData", "VmHWM")))
peak, data = (1024 * int(kilobytes[name]) for name in ("VmHWM:", "VmData:"))  # ru_maxrss is also the parent's
print(json.dumps({"peak": peak, "data": data, "median": float(np.median(samples))}))
"""
SYSTEM = sys.platform.startswith("linux")
STEP, STEPS = 1.2, 12
"""Factor between limits that are tried, from what a process was seen to take."""


@dataclass(frozen=True)
class Within:
    """A file that ran in a process of its own.

    Attributes:
        peak: most bytes that were resident, code that is mapped from files included.
        data: bytes of data at the end, which a limit counts.
        median: milliseconds of a run.
    """

    peak: int
    data: int
    median: float


def run_within(path: Path, inputs: Sequence[NDArray[np.generic]], memory: int, threads: int = 1) -> Within:
    """Load, run and time an ONNX file in a new process that may hold ``memory`` bytes of data.

    The limit is the kernel's own (RLIMIT_DATA): Python, the runtime's own data and the network together; the code of
    libraries, which is mapped from files, does not count, but is in the peak.

    Args:
        path: the file.
        inputs: one array for each input, as many samples as are served at once.
        memory: bytes.
        threads: threads within one operator.

    Raises:
        BudgetError: it does not run with so little; the message says with how much it does.
        ExportError: it does not run at all, or this system cannot limit memory.
    """
    found = _run(path, inputs, memory, threads)
    if isinstance(found, Within):
        return found
    raise BudgetError(
        f"{path.name} does not run within {memory / 1e6:.0f} MB of data ({found[:200]}): give --memory "
        f"{_enough(path, inputs, threads)}, or a smaller --budget size"
    )


def check_bare(memory: int, threads: int = 1) -> None:
    """Raise BudgetError where not even a network of nothing runs in so much memory; ExportError as `run_within`."""
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "bare", value[:1], value[1:])
    opset = [onnx.helper.make_opsetid("", 18)]
    with tempfile.TemporaryDirectory(prefix="coldpress-") as folder:
        path, inputs = Path(folder) / "bare.onnx", [np.zeros(1, np.float32)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), str(path))
        if not isinstance(_run(path, inputs, memory, threads), Within):
            raise BudgetError(
                f"Python and ONNX Runtime do not run within {memory / 1e6:.0f} MB of data, without any network: give "
                f"--memory {_enough(path, inputs, threads)} or more"
            )


def _enough(path: Path, inputs: Sequence[NDArray[np.generic]], threads: int) -> str:
    """What a file runs with: ``120MB``. Raises ExportError where it does not run at all."""
    free = _run(path, inputs, 0, threads)
    if isinstance(free, str):
        raise ExportError(f"{path.name} does not run, with any --memory: {free[:200]}")
    data, found = free.data, ""  # at the end; loading may have taken more for a while
    for _ in range(STEPS):
        data = int(STEP * data)
        ran = _run(path, inputs, data, threads)
        if isinstance(ran, Within):
            return f"{math.ceil(STEP * data / 1e6)}MB"  # a run takes more than another one by some
        found = ran
    raise ExportError(f"{path.name} runs without a limit, but not within {data / 1e6:.0f} MB of data: {found[:200]}")


def _run(path: Path, inputs: Sequence[NDArray[np.generic]], memory: int, threads: int) -> Within | str:
    """What a run was like under a limit (0: none), or the last line of why there was none."""
    if not SYSTEM:
        raise ExportError("--memory is enforced by the kernel's limit on data, which only Linux has: leave it out here")
    arrays = path.with_suffix(".inputs.npz")
    np.savez(arrays, *inputs)
    command = [sys.executable, "-c", CHILD, str(path), str(arrays), str(threads), str(memory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        arrays.unlink()
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or ["it was killed"])[-1]
    return Within(**json.loads(done.stdout.splitlines()[-1]))
