"""The layers of a model as the runtime will see them: shapes and sizes, read off one run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from coldpress.errors import SpaceError
from coldpress.layer_shape import LayerShape
from coldpress.network import LAYER_TYPES, run_watched

LEAST_TABLE = 65_536
"""Tables of fewer weights are left as they are."""


def layer_shapes(model: nn.Module, example_inputs: Sequence[Tensor]) -> dict[str, LayerShape]:
    """Shapes of all convolutions and linears that one run reaches, in the order of their first call.

    A layer that is called several times is left out where the calls differ in size.

    Args:
        model: the network.
        example_inputs: its inputs, each ``(batch, ...)``.

    Raises:
        SpaceError: if the run reaches no convolution and no linear.
    """
    calls = _calls(model, example_inputs)
    return {name: replace(s[0], calls=len(s)) for name, s in calls.items() if len(set(s)) == 1}


def count_macs(model: nn.Module, example_inputs: Sequence[Tensor]) -> int:
    """Multiply-accumulates for one sample in all convolutions and linears, as often as each is called."""
    return sum(shape.macs for shapes in _calls(model, example_inputs).values() for shape in shapes)


def table_shapes(model: nn.Module, example_inputs: Sequence[Tensor]) -> dict[str, LayerShape]:
    """Shapes of the large tables of embeddings that one run reads once, and that share their weights with no layer."""
    tied = tied_modules(model)
    found = _seen(model, example_inputs, (nn.Embedding,), _table_shape)
    return {
        name: shapes[0]
        for name, shapes in found.items()
        if len(shapes) == 1 and shapes[0].weights >= LEAST_TABLE and name not in tied
    }


def tied_modules(model: nn.Module) -> dict[str, str]:
    """Modules whose weight is another module's too, with the other: a decoder's head and its table of embeddings.

    To factorise or round one of them would only add a second copy.
    """
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    shared = [names for names in owners.values() if len(names) > 1]
    return {name: next(other for other in names if other != name) for names in shared for name in names}


def _calls(model: nn.Module, example_inputs: Sequence[Tensor]) -> dict[str, list[LayerShape]]:
    """The shape of every call of every layer, by name."""
    found = _seen(model, example_inputs, LAYER_TYPES, _shape)
    if not found:
        raise SpaceError("this model calls no Conv2d and no Linear: there is nothing that coldpress can decide")
    return found


def _seen(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    kinds: tuple[type[nn.Module], ...],
    shape: Callable[[nn.Module, torch.Size], LayerShape],
) -> dict[str, list[LayerShape]]:
    """What ``shape`` says of each call of the modules of some kinds, by name, in the order of the calls."""
    found: dict[str, list[LayerShape]] = {}
    names: dict[nn.Module, str] = {m: name for name, m in model.named_modules() if isinstance(m, kinds)}

    def note(name: str, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        found.setdefault(name, []).append(shape(model.get_submodule(name), inputs[0].shape))

    run_watched(model, example_inputs, names, note)
    return found


def _table_shape(module: nn.Module, size: torch.Size) -> LayerShape:
    rows, features = module.get_parameter("weight").shape
    return LayerShape("embedding", rows, features, input_size=(int(size[1:].numel()), 1), bias=False)


def _shape(module: nn.Module, size: torch.Size) -> LayerShape:
    if isinstance(module, nn.Linear):
        positions = int(size[1:-1].numel()) if len(size) > 2 else 1
        return LayerShape(
            "linear",
            module.in_features,
            module.out_features,
            input_size=(positions, 1),
            bias=module.bias is not None,
        )
    assert isinstance(module, nn.Conv2d)
    kh, kw = module.kernel_size
    dh, dw = module.dilation
    if isinstance(module.padding, str):
        total = (dh * (kh - 1), dw * (kw - 1)) if module.padding == "same" else (0, 0)
        padding = (total[0] // 2, total[1] // 2)
    else:
        padding = (int(module.padding[0]), int(module.padding[1]))
    return LayerShape(
        "conv",
        module.in_channels,
        module.out_channels,
        (kh, kw),
        (module.stride[0], module.stride[1]),
        padding,
        (dh, dw),
        module.groups,
        (int(size[-2]), int(size[-1])),
        module.bias is not None,
    )
