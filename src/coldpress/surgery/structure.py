"""The changed modules of a compressed network as plain data, and the way back: an empty network of that shape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from coldpress.errors import PlanError, SurgeryError
from coldpress.network import replace_module
from coldpress.surgery.eca import ECA, Attended
from coldpress.surgery.factor_train import TensorTrain
from coldpress.surgery.factorized import Factorized
from coldpress.surgery.shared_rows import SharedRows

ATTRIBUTES = ("in_channels", "out_channels", "groups", "in_features", "out_features", "num_features")
SCALED = (
    *("num_heads", "num_attention_heads", "num_key_value_heads", "n_heads", "n_head"),
    *("split_size", "all_head_size", "inner_dim", "attn_dim"),
)
"""Attributes of attention modules that count heads, or the features of all heads."""
CONV = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")


class Dropped(nn.Identity):
    """What stays of a dropped block: its first input, whatever else it is given (a mask, say).

    Args:
        results: values returned: 0 is the tensor alone, else a tuple of it and None.
    """

    def __init__(self, results: int = 0) -> None:
        super().__init__()
        self.results = results

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The first tensor that is given, ``(batch, ...)``."""
        return _results(_first(inputs, named), self.results)


class Constant(nn.Module):
    """What stays of a dropped sub-layer: what it adds to the stream in the mean, its last layer's bias.

    Args:
        bias: ``(features,)``.
        results: values returned: 0 is the tensor alone, else a tuple of it and None.
    """

    def __init__(self, bias: Tensor, results: int = 0) -> None:
        super().__init__()
        self.bias, self.results = nn.Parameter(bias), results

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The bias ``(batch, ..., features)`` for inputs whose first tensor is ``(batch, ..., any)``."""
        return _results(self.bias.expand(*_first(inputs, named).shape[:-1], -1), self.results)


def _first(inputs: Sequence[Any], named: Mapping[str, Any]) -> Tensor:
    return next(value for value in (*inputs, *named.values()) if isinstance(value, Tensor))


def _results(tensor: Tensor, count: int) -> Any:
    return (tensor, *[None] * (count - 1)) if count else tensor


class Absent(nn.Module):
    """What stays of a dropped part whose channels others are concatenated with: none."""

    def forward(self, input: Tensor | Sequence[Tensor], *_: Any, **__: Any) -> Tensor:
        """``(batch, 0, ...)`` of an input, or of the first of several, ``(batch, channels, ...)``."""
        return (input if isinstance(input, Tensor) else input[0])[:, :0]


def describe_changes(original: nn.Module, changed: nn.Module) -> dict[str, Mapping[str, Any]]:
    """Every module of ``changed`` whose type or shapes differ from ``original``, by name, as JSON-ready data.

    Names are those of the original's modules, also of what stands within a block with attention behind it.
    """
    found: dict[str, dict[str, Any]] = {}
    _describe(dict(original.named_modules()), "", changed, found, set())
    return dict(found)


def _describe(
    before: Mapping[str, nn.Module],
    name: str,
    module: nn.Module,
    found: dict[str, dict[str, Any]],
    seen: set[nn.Module],
) -> None:
    if module in seen:
        return
    seen.add(module)
    if isinstance(module, Attended) and not isinstance(before.get(name), Attended):
        inner: dict[str, dict[str, Any]] = {}
        _describe(before, name, module[0], inner, seen)
        found[name] = {"kind": "attended", "kernel": module.kernel, "block": inner.pop(name, None)}
        found.update(inner)
        return
    if name and type(module) is not type(before.get(name)):
        found[name] = _describe_new(name, module)
        return
    if _shapes(module) != _shapes(before[name]) or _attributes(module) != _attributes(before[name]):
        found[name] = {"kind": "resized", "attributes": _attributes(module), "tensors": _shapes(module)}
    for child, part in module.named_children():
        _describe(before, f"{name}.{child}" if name else child, part, found, seen)


def _attributes(module: nn.Module) -> dict[str, int]:
    values = {key: getattr(module, key, None) for key in (*ATTRIBUTES, *SCALED)}
    return {key: value for key, value in values.items() if isinstance(value, int)}


def _shapes(module: nn.Module) -> dict[str, list[int]]:
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return {name: list(tensor.shape) for name, tensor in tensors}


def _describe_new(name: str, module: nn.Module) -> dict[str, Any]:
    if isinstance(module, nn.Identity | Absent):
        results = {"results": module.results} if isinstance(module, Dropped) and module.results else {}
        return {"kind": "absent" if isinstance(module, Absent) else "identity", **results}
    if isinstance(module, Constant):
        return {"kind": "constant", "features": len(module.bias), "results": module.results}
    if isinstance(module, TensorTrain):
        return {"kind": "tensor-train", **module.describe()}
    if isinstance(module, Factorized):
        return {"kind": "factorized", "parts": [_describe_part(part) for part in module]}
    if isinstance(module, SharedRows):
        parts = module.table if isinstance(module.table, Factorized) else [module.table]
        return {"kind": "shared-rows", "tokens": len(module.rows), "parts": [_describe_part(part) for part in parts]}
    raise PlanError(f"{name!r} became a {type(module).__name__}, which no plan can describe")


def _describe_part(part: nn.Module) -> dict[str, Any]:
    if isinstance(part, nn.Linear):
        return {"in_features": part.in_features, "out_features": part.out_features, "bias": part.bias is not None}
    if isinstance(part, nn.Embedding):
        padding = {} if part.padding_idx is None else {"padding_idx": part.padding_idx}
        return {"num_embeddings": part.num_embeddings, "embedding_dim": part.embedding_dim, **padding}
    assert isinstance(part, nn.Conv2d)
    values = {key: getattr(part, key) for key in CONV}
    return {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()} | {"bias": part.bias is not None}


def rebuild(model: nn.Module, structure: Mapping[str, Mapping[str, Any]]) -> None:
    """Give a fresh instance of the original, in place, the compressed network's shapes; its weights are left empty.

    Args:
        model: an instance of the original network.
        structure: ``Plan.structure``.

    Raises:
        PlanError: if a module is not there, or the structure is malformed.
    """
    for name, spec in structure.items():
        if not isinstance(spec, Mapping) or "kind" not in spec:
            raise PlanError(f"the plan's structure of {name!r} cannot be read: it is no mapping with a kind")
    attended = {name: spec for name, spec in structure.items() if spec["kind"] == "attended"}
    plain = {name: attended[name].get("block") if name in attended else spec for name, spec in structure.items()}
    for name, own in plain.items():
        try:
            module = model.get_submodule(name)
        except AttributeError as error:
            raise PlanError(
                f"the plan changes {name!r}, which this model does not have: is it another model?"
            ) from error
        with _readable(name):
            if own is not None and own["kind"] == "resized":
                _resize(module, own)
            elif own is not None:
                replace_module(model, name, _new(own))
    for name in sorted(attended, key=lambda block: -block.count(".")):  # then the names of inner blocks change
        with _readable(name):
            replace_module(model, name, Attended(model.get_submodule(name), ECA(int(attended[name]["kernel"]))))


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, SurgeryError) as error:
        raise PlanError(f"the plan's structure of {name!r} cannot be read: {error!r}") from error


def _resize(module: nn.Module, spec: Mapping[str, Any]) -> None:
    for key, value in spec["attributes"].items():
        if key in (*ATTRIBUTES, *SCALED):
            setattr(module, key, int(value))
    for name, shape in spec["tensors"].items():
        old = getattr(module, name, None)
        if isinstance(old, nn.Parameter) or (old is None and name in module._parameters):
            setattr(module, name, nn.Parameter(torch.zeros(shape)))
        else:
            module.register_buffer(name, torch.zeros(shape, dtype=None if old is None else old.dtype))


def _new(spec: Mapping[str, Any]) -> nn.Module:
    if spec["kind"] == "absent":
        return Absent()
    if spec["kind"] == "identity":
        return Dropped(int(spec.get("results", 0)))
    if spec["kind"] == "constant":
        return Constant(torch.zeros(int(spec["features"])), int(spec["results"]))
    if spec["kind"] == "tensor-train":
        return TensorTrain(**{key: value for key, value in spec.items() if key != "kind"})
    parts = [_part(part) for part in spec["parts"]]
    if spec["kind"] == "shared-rows":
        rows = torch.zeros(int(spec["tokens"]), dtype=torch.int32)
        return SharedRows(rows, parts[0] if len(parts) == 1 else Factorized(*parts))
    return Factorized(*parts)


def _part(part: Mapping[str, Any]) -> nn.Module:
    if "in_features" in part:
        return nn.Linear(**part)
    if "num_embeddings" in part:
        return nn.Embedding(**part)
    arguments: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in part.items()}
    return nn.Conv2d(**arguments)
