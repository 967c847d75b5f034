"""PyTorch to ONNX: one file, any batch size, checked against PyTorch before it is believed."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from coldpress.errors import ExportError
from coldpress.network import watch_functions
from coldpress.runtime.onnx_files import tidy, write_model
from coldpress.runtime.sessions import run, session

log = logging.getLogger("coldpress.runtime")

OPSET = 18
NEWER = {"gelu": 20, "scaled_dot_product_attention": 23}
"""Functions that are one operator from a later opset on, and several before: a tenth of a small encoder's time."""
TOLERANCE = 1e-4


def export(
    model: nn.Module,
    example_inputs: tuple[Tensor, ...],
    path: str | Path,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    free: Sequence[Sequence[int]] | None = None,
) -> Path:
    """Write ``model`` as one ONNX file whose first dimension is free, and prove that it computes the same.

    Layers are named as their modules are ("layer1.0.conv1"). The model's mode and device are as before afterwards.

    Args:
        model: returns a tensor, or a tuple of tensors.
        example_inputs: each ``(batch, ...)``; any batch size, 1 included.
        path: the file to write; written beside and renamed.
        input_names: one for each input; by default those of `default_names`.
        output_names: one for each output; by default "logits", "output_1", ...
        free: for each input, which of its dimensions are free beside the first; by default those of `free_batch`.

    Returns:
        The path.

    Raises:
        ExportError: the model cannot be exported, or the file's outputs differ from PyTorch's by more than 1e-4 of
            their largest magnitude.
    """
    path = Path(path)
    if not example_inputs:
        raise ExportError("example_inputs is empty; give one tensor for each input of the model, e.g. one batch")
    with _evaluating(model), torch.no_grad():
        inputs = tuple(_batch(value.detach().cpu(), 2) for value in example_inputs)
        outputs = _outputs(model, inputs)
        names_in = list(input_names or default_names(model, len(inputs)))
        names_out = list(output_names or _names("logits", "output", len(outputs)))
        opsets = _opsets(model, inputs)
        for opset in opsets:
            try:
                written = _convert(model, inputs, names_in, names_out, opset, free)
                tidy(written)
                write_model(written, path, lambda place: _check(model, inputs, place))
                break
            except ExportError as error:  # the newest operators are not sound in every runtime
                if opset == opsets[-1]:
                    raise
                log.info("opset %d does not do for this model: %s", opset, error)
    return path


def default_names(model: nn.Module, inputs: int) -> list[str]:
    """Names of the inputs in the file: what the model says in ``input_names``, else "input", "input_1", ..."""
    own = getattr(model, "input_names", ())
    return [str(name) for name in own[:inputs]] if len(own) >= inputs else _names("input", "input", inputs)


def free_batch(
    model: nn.Module, inputs: Sequence[Tensor], free: Sequence[Sequence[int]] | None = None
) -> tuple[Any, ...]:
    """``dynamic_shapes`` for torch.export: the first dimension of every input is free.

    So is the second of whole numbers ``(batch, tokens)``, where a model takes several such inputs.

    Args:
        model: its forward may take its inputs one by one or as ``*inputs``.
        inputs: each ``(batch, ...)``.
        free: for each input, which further dimensions are free; None: as said above.
    """
    batch = torch.export.Dim("batch", min=1)
    if free is None:
        tokens = [x.dim() == 2 and not x.is_floating_point() for x in inputs]
        free = [(1,) if token and sum(tokens) > 1 else () for token in tokens]
    # As long as the model's positions reach.
    shapes: list[Any] = [{0: batch} | dict.fromkeys(more, torch.export.Dim.DYNAMIC) for more in free]
    for named, parameter in enumerate(inspect.signature(model.forward).parameters.values()):
        if parameter.kind is parameter.VAR_POSITIONAL:
            return (*shapes[:named], tuple(shapes[named:]))
    return tuple(shapes)


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode on the CPU inside; afterwards every module's mode and the device are as before."""
    modes = {module: module.training for module in model.modules()}
    first = next(model.parameters(), None)
    device = torch.device("cpu") if first is None else first.device
    model.cpu().eval()
    try:
        yield
    finally:
        model.to(device)
        for module, mode in modes.items():
            module.training = mode


def _batch(value: Tensor, size: int) -> Tensor:
    """``value`` with exactly ``size`` samples, repeated where there are too few."""
    if value.ndim == 0 or value.shape[0] == 0:
        raise ExportError(f"an example input has shape {tuple(value.shape)}; it needs a batch of at least one sample")
    copies = -(-size // value.shape[0])
    return torch.cat([value] * copies)[:size].contiguous()


def _outputs(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    try:
        result = model(*inputs)
    except Exception as error:
        shapes = ", ".join(str(tuple(value.shape)) for value in inputs)
        raise ExportError(f"the model does not run on inputs of shape {shapes}: {error}") from error
    found = result if isinstance(result, (tuple, list)) else (result,)
    if not found or not all(isinstance(value, Tensor) for value in found):
        raise ExportError(
            f"the model returns a {type(result).__name__}; only a tensor or a tuple of tensors can be exported; "
            "wrap the model in a module that returns its logits"
        )
    return tuple(found)


def _names(first: str, rest: str, count: int) -> list[str]:
    return [first, *(f"{rest}_{i}" for i in range(1, count))]


def _convert(
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    names_in: list[str],
    names_out: list[str],
    opset: int,
    free: Sequence[Sequence[int]] | None,
) -> onnx.ModelProto:
    quiet = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript"), logging.getLogger("onnx_ir")
    levels = [logger.level for logger in quiet]
    try:
        for logger in quiet:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                model,
                inputs,
                dynamo=True,
                opset_version=opset,
                external_data=False,
                dynamic_shapes=free_batch(model, inputs, free),
                input_names=names_in,
                output_names=names_out,
                verbose=False,
            )
        return program.model_proto
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        raise ExportError(
            f"{type(model).__name__} cannot be exported to ONNX: {reason}; avoid data-dependent control flow and "
            "shapes in forward, and let it accept any batch size"
        ) from error
    finally:
        for logger, level in zip(quiet, levels):
            logger.setLevel(level)


def _opsets(model: nn.Module, inputs: Sequence[Tensor]) -> list[int]:
    """The opsets to try: first those that have an operator for more functions of the model."""
    called: set[str] = set()
    watch_functions(model, inputs, lambda name, *_: called.add(name))
    return sorted({OPSET, *(opset for name, opset in NEWER.items() if name in called)}, reverse=True)


def _check(model: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    running = session(path)
    for size in (2, 3):
        batch = tuple(_batch(value, size) for value in inputs)
        expected = _outputs(model, batch)
        found = run(running, [value.numpy() for value in batch])
        for want, got in zip(expected, found):
            wanted = want.numpy()
            if wanted.shape != got.shape:
                raise ExportError(
                    f"the ONNX file gives shape {got.shape} where PyTorch gives {wanted.shape} (batch {size}); "
                    "the model fixes its batch size in forward: use x.shape[0] or flatten(1) there"
                )
            scale = max(1.0, float(np.abs(wanted).max(initial=0.0)))
            error = float(np.abs(wanted - got).max(initial=0.0)) / scale
            if not error <= TOLERANCE:
                raise ExportError(
                    f"the ONNX file's outputs differ from PyTorch's by {error:.2g} of their magnitude (allowed: "
                    f"{TOLERANCE:g}) on a batch of {size}; look for NaN in the weights or random layers in forward"
                )
