"""Running a file under a memory limit, in a process of its own, as a small machine would have to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from coldpress.errors import ExportError

CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[4]),) * 2)
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = int(sys.argv[3])
session = ort.InferenceSession(sys.argv[1], options)
arrays = np.load(sys.argv[2])
feeds = {node.name: arrays[f"arr_{i}"] for i, node in enumerate(session.get_inputs())}
for _ in range(3):
    session.run(None, feeds)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
SYSTEM = sys.platform.startswith("linux")


def run_within(path: Path, inputs: Sequence[NDArray[np.generic]], memory: int, threads: int = 1) -> int:
    """Load and run an ONNX file in a new process that may hold ``memory`` bytes of data; its peak use in bytes.

    The limit is the kernel's own (RLIMIT_DATA): Python, the runtime's own data and the network together; the code of
    libraries, which is mapped from files, does not count, but is in the peak.

    Args:
        path: the file.
        inputs: one array for each input, as many samples as are served at once.
        memory: bytes.
        threads: threads within one operator.

    Raises:
        ExportError: it does not run with so little, or this system cannot limit memory.
    """
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
        words = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise ExportError(
            f"{path.name} does not run within {memory / 1e6:.0f} MB of data ({words[:200]}): give more --memory, or a "
            "smaller --budget size"
        )
    return int(done.stdout.split()[-1]) * 1024
