"""ONNX Runtime sessions that behave the same every time, and runs over batches."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from coldpress.errors import ExportError

log = logging.getLogger("coldpress.runtime")

Arrays = Mapping[str, NDArray[Any]]
Optimisation = Literal["all", "extended", "basic", "none"]

_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "none": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def session(
    model: str | Path | bytes,
    threads: int = 1,
    optimisation: Optimisation = "all",
    *,
    prepack: bool = True,
    optimised_path: str | Path | None = None,
    profile_prefix: str | None = None,
) -> ort.InferenceSession:
    """A CPU session: nodes run one after another on ``threads`` threads that sleep when idle.

    Args:
        model: an ONNX file, or its bytes.
        threads: threads within one operator, 1 or more.
        optimisation: how far ONNX Runtime rewrites the graph.
        prepack: whether weights are laid out anew for their kernels; a profile does not show those that are.
        optimised_path: where to save the rewritten graph, if at all.
        profile_prefix: turns profiling on; the path that profile files begin with.

    Raises:
        ExportError: the model cannot be read or is not valid.
    """
    if threads < 1:
        raise ExportError(f"threads is {threads}; a session needs 1 or more")
    if optimisation not in _LEVELS:
        raise ExportError(f"optimisation is {optimisation!r}; allowed: {', '.join(_LEVELS)}")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = _LEVELS[optimisation]
    options.log_severity_level = 4  # what fails is raised as well
    # Threads that spin between two runs steal time from whatever is measured next to them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if not prepack:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if optimised_path is not None:
        options.optimized_model_filepath = str(optimised_path)
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    source = model if isinstance(model, bytes) else str(model)
    if isinstance(source, str) and not Path(source).is_file():
        raise ExportError(f"there is no ONNX file at {source}; export the model first or correct the path")
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has no common base class for its errors
        name = source if isinstance(source, str) else f"{len(source)} bytes"
        raise ExportError(f"ONNX Runtime cannot open {name}: {error}") from error


def run(running: ort.InferenceSession, arrays: Arrays | Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """All outputs for one batch; ``arrays`` by input name, or in the order of the inputs."""
    if not isinstance(arrays, Mapping):
        names = [node.name for node in running.get_inputs()]
        if len(names) != len(arrays):
            raise ExportError(
                f"the model has {len(names)} inputs ({', '.join(names)}), {len(arrays)} arrays were given"
            )
        arrays = dict(zip(names, arrays))
    try:
        return list(running.run(None, dict(arrays)))
    except Exception as error:
        shapes = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
        raise ExportError(f"ONNX Runtime could not run on inputs {shapes}: {error}") from error


def predict(running: ort.InferenceSession, batches: Iterable[Arrays | Sequence[NDArray[Any]]]) -> NDArray[Any]:
    """The first output over all batches, concatenated along the batch: ``(samples, ...)``.

    Raises:
        ExportError: there is no batch, or one does not fit.
    """
    outputs = [run(running, batch)[0] for batch in batches]
    if not outputs:
        raise ExportError("there is no batch to predict; give at least one sample")
    return np.concatenate(outputs)
