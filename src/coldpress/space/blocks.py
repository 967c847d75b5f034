"""Residual blocks that may be dropped whole: modules that become the identity when their weights are zero."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from coldpress.network import LAYER_TYPES, evaluating, first_tensor

POST_NORMS = (nn.LayerNorm, nn.RMSNorm)


Call = tuple[tuple[Any, ...], dict[str, Any]]


def residual_blocks(model: nn.Module, example_inputs: Sequence[Tensor]) -> tuple[str, ...]:
    """Names of the smallest modules that hold layers and can be dropped: with its branches silent each is a shortcut.

    A block whose output equals its input once its weights are zero loses nothing else when it is dropped. The test runs
    on a copy with real activations, so a ReLU behind the sum counts as the identity exactly where its input is never
    negative. Where a norm follows the sum (post-norm transformers), the silent block must give its input, normalised:
    dropping it then leaves out the norm as well, which comes from the block before in its place.

    Args:
        model: the network.
        example_inputs: its inputs, each ``(batch, ...)``.
    """
    seen: dict[str, list[Call]] = {}
    ended: dict[str, torch.Size] = {}

    def before(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            # cloned: the block may work in place
            kept = tuple(value.detach().clone() if isinstance(value, Tensor) else value for value in inputs)
            seen.setdefault(name, []).append((kept, named))

        return hook

    def after(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
                ended[name] = output.shape

        return hook

    handles = []
    for name, module in model.named_modules():
        if name and _holds_layers(module):
            handles.append(module.register_forward_pre_hook(before(name), with_kwargs=True))
            handles.append(module.register_forward_hook(after(name)))
    try:
        with evaluating(model):
            model(*[tensor[:2] for tensor in example_inputs])
    finally:
        for handle in handles:
            handle.remove()

    modules = dict(model.named_modules())
    found: list[str] = []
    for name, shape in ended.items():
        # `ended` is in the order in which calls end, so a module's children come before it
        if len(seen[name]) != 1 or any(inner.startswith(name + ".") for inner in found):
            continue
        call = seen[name][0]
        if shape == call[0][0].shape and _is_shortcut(modules[name], call):
            found.append(name)
    return tuple(found)


def _holds_layers(module: nn.Module) -> bool:
    return not isinstance(module, LAYER_TYPES) and any(isinstance(inner, LAYER_TYPES) for inner in module.modules())


def _is_shortcut(block: nn.Module, call: Call) -> bool:
    """Whether the block with its weights at zero gives its first input, or that normalised by its last norm."""
    first = call[0][0]
    post_norm = any(isinstance(module, POST_NORMS) for module in block.modules())
    try:
        scale = float(first.abs().max())  # activations of untrained networks may be very small
        if scale and torch.allclose(_silent(block, call, (nn.Module,)), first, atol=min(1e-6, 1e-5 * scale)):
            return True
        if not post_norm:
            return False
        found = _silent(block, call, LAYER_TYPES)
    except Exception:  # a block that cannot run alone cannot be dropped either
        return False
    found, first = (tensor - tensor.mean(-1, keepdim=True) for tensor in (found, first))
    return bool((functional.cosine_similarity(found, first, dim=-1) > 0.999).all())


def _silent(block: nn.Module, call: Call, kinds: tuple[type[nn.Module], ...]) -> Tensor:
    """The output of a copy whose modules of some kinds have all parameters zero, and whose other norms are plain."""
    silent = copy.deepcopy(block)
    for module in silent.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.zero_()
        for name, parameter in module.named_parameters(recurse=False):
            plain = isinstance(module, POST_NORMS) and not isinstance(module, kinds) and name == "weight"
            parameter.data.fill_(1.0 if plain else 0.0)
    inputs = [value.clone() if isinstance(value, Tensor) else value for value in call[0]]
    with evaluating(silent):
        return first_tensor(silent(*inputs, **call[1]))
