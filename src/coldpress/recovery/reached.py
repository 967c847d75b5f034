"""Whether a network runs the same layers while it is trained as when it is evaluated."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from coldpress.errors import TaskError
from coldpress.network import LAYER_TYPES, evaluating


def check_reached(model: nn.Module, example_inputs: Sequence[Tensor]) -> None:
    """Raise TaskError where training runs layers that evaluation does not: auxiliary heads, say.

    Plans are made from runs in evaluation mode: channels would go that such layers read, and training would fail.

    Args:
        model: the network; it is not changed.
        example_inputs: its inputs, each ``(batch, ...)``.
    """
    layers = {name for name, module in model.named_modules() if isinstance(module, LAYER_TYPES)}
    with evaluating(model):
        idle = layers - _reached(model, example_inputs)
    if not idle:
        return
    pairs = [tensor[:1].repeat(2, *[1] * (tensor.dim() - 1)) for tensor in example_inputs]  # BatchNorm wants two
    with torch.no_grad():
        late = sorted(idle & _reached(copy.deepcopy(model).train(), pairs))
    if late:
        raise TaskError(
            f"training runs layers that evaluation does not: {', '.join(late[:4])}; take auxiliary heads out of the "
            "model (model.aux1 = model.aux2 = None, in torchvision's GoogLeNet), or give 0 epochs"
        )


def _reached(model: nn.Module, inputs: Sequence[Tensor]) -> set[str]:
    """Names of the layers that one run calls."""
    found: set[str] = set()
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, LAYER_TYPES)]
    handles = [
        module.register_forward_hook(lambda *_, name=name: found.add(name))  # type: ignore[misc]
        for name, module in layers
    ]
    try:
        model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return found
