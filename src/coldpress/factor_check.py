"""Whether the factor layers of a network that is handed out are faster than the dense layers that they stand for."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from coldpress.cost.profiles import HOST, table_for
from coldpress.deploy import Form
from coldpress.layer_shape import LayerShape, Method
from coldpress.recipe import Recipe
from coldpress.space.layers import layer_shapes
from coldpress.surgery.factor_train import TensorTrain
from coldpress.surgery.factorized import Factorized

logger = logging.getLogger("coldpress.pipeline")


def factored_shapes(
    model: nn.Module, example_inputs: Sequence[Tensor], int8: Mapping[str, Form]
) -> dict[str, LayerShape]:
    """The shapes of a network's factor layers, as it is; tables of embeddings, made smaller for bytes, are left out.

    Args:
        model: the network.
        example_inputs: its inputs, each ``(batch, ...)``.
        int8: the layers that run in int8, factors by their own names.
    """
    modules = {name: module for name, module in model.named_modules() if isinstance(module, Factorized)}
    shapes = layer_shapes(model, example_inputs) if modules else {}
    found = {}
    for name, module in modules.items():
        parts = [shapes.get(f"{name}.{i}") for i in range(len(module))]
        known = [part for part in parts if part is not None]
        if len(known) == len(parts):
            form = int8.get(f"{name}.0")
            found[name] = replace(_whole(module, known), bits=8 if form else 32, dynamic=form == "dynamic")
    return found


def check_factors(
    model: nn.Module, example_inputs: Sequence[Tensor], int8: Mapping[str, Form], recipe: Recipe
) -> dict[str, Any]:
    """Each factor layer's time beside that of the dense layer of its widths and bits; empty where there is none.

    Times are those of the table that plans are made by: what it does not hold yet is measured, on a profile's device
    all is modelled.

    Args:
        model, example_inputs, int8: as of `factored_shapes`.
        recipe: device, threads and batch.

    Returns:
        ``device``, and ``layers``: rows with layer, method, rank, bits, factor_ms, dense_ms and ok.
    """
    shapes = factored_shapes(model, example_inputs, int8)
    if not shapes:
        return {}
    table = table_for(recipe.device, recipe.threads, recipe.batch)
    dense = {name: replace(shape, method="dense", rank=()) for name, shape in shapes.items()}
    table.measure([*shapes.values(), *dense.values()], limit_seconds=recipe.measure_seconds)
    rows = []
    for name, shape in shapes.items():
        seconds, whole = table.seconds(shape), table.seconds(dense[name])
        row = {"layer": name, "method": shape.method, "rank": list(shape.rank), "bits": shape.bits}
        rows.append({**row, "factor_ms": seconds * 1e3, "dense_ms": whole * 1e3, "ok": seconds <= whole})
    slower = [str(row["layer"]) for row in rows if not row["ok"]]
    if slower:
        words = "measured" if recipe.device == HOST else "modelled"
        logger.warning("factors are slower than the dense layer, %s: %s", words, ", ".join(slower))
    return {"device": recipe.device, "layers": rows}


def _whole(module: Factorized, parts: Sequence[LayerShape]) -> LayerShape:
    """The factorised layer that a module's parts make up."""
    first, last = parts[0], parts[-1]
    shape = replace(first, out_channels=last.out_channels, bias=True)
    if isinstance(module, TensorTrain):
        return replace(
            shape,
            in_channels=module.few * module.many,
            out_channels=module.high * module.low,
            input_size=(first.input_size[0] // module.few, 1),
            method="tensor-train",
            rank=(module.rank,),
        )
    ranks = tuple(part.out_channels for part in parts[:-1])
    method: Method = "svd" if last.kernel == (1, 1) else "spatial"
    if len(parts) == 3:
        method = "cp" if parts[1].groups > 1 else "tucker"
    return replace(
        shape,
        kernel=_greatest(part.kernel for part in parts),
        stride=_greatest(part.stride for part in parts),
        padding=_greatest(part.padding for part in parts),
        dilation=_greatest(part.dilation for part in parts),
        method=method,
        rank=ranks[:1] if method == "cp" else ranks,
    )


def _greatest(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """By axis: the whole's, since a part that is 1 along an axis has stride and dilation 1 and no padding there."""
    heights, widths = zip(*pairs)
    return max(heights), max(widths)
