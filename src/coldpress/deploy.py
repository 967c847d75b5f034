"""Networks as they will be served: exported, rounded where the plan says int8, evaluated and timed on the runtime."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from coldpress.evaluate import Evaluation
from coldpress.network import LAYER_TYPES, logits_of
from coldpress.plan import Plan, Space
from coldpress.runtime.clock import Timing, time_sessions
from coldpress.runtime.dynamic import depends_on_batch, round_dynamically
from coldpress.runtime.onnx import export
from coldpress.runtime.onnx_files import weight_nodes
from coldpress.runtime.quantize import quantize
from coldpress.runtime.sessions import run, session
from coldpress.runtime.tables import round_tables
from coldpress.task import EVALUATION_BATCH, Split, Task

CALIBRATION_BATCH = 32
CALIBRATION_IMAGES = 256
Form = Literal["static", "dynamic"]


def int8_layers(space: Space, plan: Plan, model: nn.Module) -> dict[str, Form]:
    """The layers of a compressed network that the plan runs in int8 (their parts, where factorised), and in which form.

    Tables of embeddings are among them, as static.
    """
    found: dict[str, Form] = {}
    for site, shape in space.configured(plan.choices):
        if shape is None or shape.bits != 8:
            continue
        rounded = (nn.Embedding,) if site.shape.kind == "embedding" else LAYER_TYPES
        for name, part in model.get_submodule(site.name).named_modules(prefix=site.name):
            if isinstance(part, rounded):
                found[name] = "dynamic" if shape.dynamic else "static"
    return found


def export_both(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    int8: Mapping[str, Form],
    calibration: Sequence[Tensor],
    fp32_path: Path,
    path: Path,
) -> None:
    """Write the fp32 file and the one to deploy: int8 where asked, else a copy.

    Args:
        model: the network.
        example_inputs: its inputs, each ``(batch, ...)``.
        int8: names of the layers to round, and in which form.
        calibration: inputs that the activations' ranges are found on, each ``(images, ...)``.
        fp32_path, path: the two files.
    """
    export(model, tuple(example_inputs), fp32_path)
    if not int8:
        shutil.copyfile(fp32_path, path)
        return
    tables = [name for name in int8 if isinstance(model.get_submodule(name), nn.Embedding)]
    layers = {name: form for name, form in int8.items() if name not in tables}
    nodes = {form: weight_nodes(fp32_path, [n for n in layers if layers[n] == form]) for form in ("static", "dynamic")}
    # Static ranges are then those of inputs that dynamic layers gave.
    round_dynamically(fp32_path, path, [node for calls in nodes["dynamic"].values() for node in calls])
    static = [node for calls in nodes["static"].values() for node in calls]
    quantize(path, path, feeds(path, calibration), nodes=static)
    if tables:
        round_tables(path, [f"{name}.weight" for name in tables])


def feeds(path: Path, inputs: Sequence[Tensor], batch_size: int = CALIBRATION_BATCH) -> Iterable[dict[str, Any]]:
    """Batches of inputs by the file's input names."""
    names = [node.name for node in session(path).get_inputs()]
    for start in range(0, len(inputs[0]), batch_size):
        yield {name: tensor[start : start + batch_size].numpy() for name, tensor in zip(names, inputs)}


def evaluate_file(task: Task, path: Path, split: Split, threads: int = 2, batch: int = 1) -> Evaluation:
    """Evaluate an ONNX file on a split of the task; with ``batch`` samples in a run where outputs depend on that."""
    running = session(path, threads=threads)

    def predict(inputs: tuple[Tensor, ...]) -> Tensor:
        return logits_of(torch.from_numpy(np.asarray(run(running, [tensor.numpy() for tensor in inputs])[0])))

    return task.evaluate(predict, split, batch if depends_on_batch(path) else EVALUATION_BATCH)


def score_deployed(task: Task, space: Space, plan: Plan, model: nn.Module, split: Split, batch: int = 1) -> float:
    """The task's metric of what would be deployed: rounded where the plan says int8, else the network itself."""
    if not int8_layers(space, plan, model):
        return task.score(model, split)
    with deployed(task, space, plan, model) as path:
        return evaluate_file(task, path, split, batch=batch).score(task.metric)


@contextmanager
def deployed(task: Task, space: Space, plan: Plan, model: nn.Module) -> Iterator[Path]:
    """The file that would be deployed, as long as the context lasts."""
    inputs, _ = task.calibration(CALIBRATION_IMAGES)
    with tempfile.TemporaryDirectory(prefix="coldpress-") as folder:
        fp32, path = Path(folder) / "fp32.onnx", Path(folder) / "model.onnx"
        export_both(model, task.example_inputs, int8_layers(space, plan, model), inputs, fp32, path)
        yield path


def served(example_inputs: Sequence[Tensor], batch: int) -> list[NDArray[Any]]:
    """The first sample as arrays, ``batch`` times over: what latency and memory are measured with."""
    return [tensor[:1].repeat(batch, *[1] * (tensor.dim() - 1)).numpy() for tensor in example_inputs]


def time_files(
    files: Mapping[str, Path],
    example_inputs: Sequence[Tensor],
    *,
    threads: int = 1,
    batch: int = 1,
    seed: int = 0,
    max_seconds: float = 20.0,
) -> dict[str, Timing]:
    """Time ONNX files against each other, interleaved in one run."""
    sessions: dict[str, ort.InferenceSession] = {name: session(path, threads=threads) for name, path in files.items()}
    arrays = served(example_inputs, batch)
    own = {
        name: {node.name: array for node, array in zip(side.get_inputs(), arrays)} for name, side in sessions.items()
    }
    return time_sessions(sessions, own, seed=seed, max_seconds=max_seconds)


def sparsity(model: nn.Module) -> float:
    """Fraction of the parameters that are exactly zero."""
    parameters = [p.detach() for p in model.parameters()]
    total = sum(p.numel() for p in parameters)
    return sum(int((p == 0).sum()) for p in parameters) / max(total, 1)
