"""Residual blocks that may be dropped whole: modules that become the identity when their weights are zero."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from coldpress.network import LAYER_TYPES, evaluating


def residual_blocks(model: nn.Module, example_inputs: Sequence[Tensor]) -> tuple[str, ...]:
    """Names of the smallest modules that hold layers and whose output equals their input once their weights are zero.

    That is what makes a block droppable: with its branch silent, only the shortcut is left. The test runs on a copy
    with real activations, so a ReLU behind the sum counts as the identity exactly where its input is never negative.

    Args:
        model: the network.
        example_inputs: its inputs, each ``(batch, ...)``.
    """
    seen: dict[str, tuple[Tensor, int]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if len(inputs) == 1 and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                calls = seen[name][1] + 1 if name in seen else 1
                # cloned: the block may work in place
                seen[name] = (output.detach().clone(), calls)

        return hook

    inputs_of: dict[str, Tensor] = {}

    def before(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if len(inputs) == 1 and isinstance(inputs[0], Tensor):
                inputs_of[name] = inputs[0].detach().clone()

        return hook

    handles = []
    for name, module in model.named_modules():
        if name and _holds_layers(module):
            handles += [module.register_forward_pre_hook(before(name)), module.register_forward_hook(note(name))]
    try:
        with evaluating(model):
            model(*[tensor[:2] for tensor in example_inputs])
    finally:
        for handle in handles:
            handle.remove()

    modules = dict(model.named_modules())
    found: list[str] = []
    for name, (output, calls) in seen.items():
        # `seen` is in the order in which calls end, so a module's children come before it
        if calls != 1 or output.shape != inputs_of[name].shape or any(inner.startswith(name + ".") for inner in found):
            continue
        if _silent_equals_input(modules[name], inputs_of[name]):
            found.append(name)
    return tuple(found)


def _holds_layers(module: nn.Module) -> bool:
    return not isinstance(module, LAYER_TYPES) and any(isinstance(inner, LAYER_TYPES) for inner in module.modules())


def _silent_equals_input(block: nn.Module, inputs: Tensor) -> bool:
    silent = copy.deepcopy(block)
    with torch.no_grad():
        for parameter in silent.parameters():
            parameter.zero_()
        for inner in silent.modules():
            if isinstance(inner, nn.modules.batchnorm._BatchNorm) and inner.running_mean is not None:
                inner.running_mean.zero_()
    try:
        with evaluating(silent):
            return torch.allclose(silent(inputs.clone()), inputs, atol=1e-6)
    except Exception:  # a block that cannot run alone cannot be dropped either
        return False
