"""Small facts about a torch network that several floors need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from coldpress.errors import TaskError

LAYER_TYPES = (nn.Conv2d, nn.Linear)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode without gradients; every module's own mode is put back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield model
    finally:
        for module, mode in modes.items():
            module.training = mode


def first_tensor(output: Any) -> Tensor:
    """The output itself, its ``logits`` (as transformers models name them), or the first tensor of a tuple.

    Raises:
        TaskError: if there is none, as in a dict.
    """
    first = getattr(output, "logits", output)
    while isinstance(first, tuple | list) and first:
        first = first[0]
    if not isinstance(first, Tensor):
        raise TaskError(
            f"the model returns a {type(output).__name__}; it must return a tensor of logits, a tuple that starts "
            "with one, or an object that has logits: wrap it in a module whose forward picks the logits"
        )
    return first


def logits_of(output: Any) -> Tensor:
    """The logits of a model's output, ``(rows, classes)``; decoders' ``(batch, tokens, classes)`` have a row a token.

    Raises:
        TaskError: if there are none.
    """
    logits = first_tensor(output)
    return logits.flatten(0, 1) if logits.dim() == 3 else logits


def divergence(teacher: Tensor, logits: Tensor) -> float:
    """Mean KL(teacher || student) in nats from logits ``(images, classes)``."""
    log_p, log_q = teacher.double().log_softmax(dim=1), logits.double().log_softmax(dim=1)
    return float((log_p.exp() * (log_p - log_q)).sum(dim=1).mean())


class NotedCalls(TorchFunctionMode):
    """Tells ``note`` the name and the arguments of every torch function that is called while the context lasts."""

    def __init__(self, note: Callable[[str, tuple[Any, ...], dict[str, Any]], None]) -> None:
        super().__init__()
        self.note = note

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.note(getattr(func, "__name__", ""), args, kwargs or {})
        return func(*args, **(kwargs or {}))


def watch_functions(
    model: nn.Module, inputs: Iterable[Tensor], note: Callable[[str, tuple[Any, ...], dict[str, Any]], None]
) -> None:
    """Run a network once and tell ``note`` the name and the arguments of every torch function that it calls."""
    with evaluating(model), NotedCalls(note):
        model(*inputs)


@contextmanager
def restoring(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put back, at the end, these modules' parameters, buffers and attributes.

    Only references are kept: what happens in between must replace tensors, not write into them.
    """
    saved = [(m, dict(m.__dict__), dict(m._parameters), dict(m._buffers), dict(m._modules)) for m in modules]
    try:
        yield
    finally:
        for module, attributes, parameters, buffers, children in saved:
            module.__dict__.clear()
            module.__dict__.update(attributes, _parameters=parameters, _buffers=buffers, _modules=children)


def run_watched(
    model: nn.Module, inputs: Iterable[Tensor], names: Mapping[nn.Module, str], note: Callable[[str, Any, Any], None]
) -> None:
    """Run the model once in evaluation mode and note (name, arguments, output) of each call of the named modules."""

    def watch(module: nn.Module, arguments: Any, output: Any) -> None:
        note(names[module], arguments, output)

    handles = [module.register_forward_hook(watch) for module in names]
    try:
        with evaluating(model):
            model(*inputs)
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def forwarding(model: nn.Module, replaced: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Modules, by name, compute something else for a while."""
    modules = [model.get_submodule(name) for name in replaced]
    for module, forward in zip(modules, replaced.values()):
        module.__dict__["forward"] = forward
    try:
        yield
    finally:
        for module in modules:
            del module.__dict__["forward"]


def token_mask(inputs: Sequence[Tensor]) -> Tensor | None:
    """Which tokens of padded sequences are real, ``(samples, tokens)`` bool, where a model's inputs say it.

    That is an input of whole numbers 0 and 1, each sequence's first ones 1, beside another one of the same shape.
    """
    for i, mask in enumerate(inputs):
        if (
            mask.is_floating_point()
            or mask.dim() != 2
            or all(x.shape != mask.shape for x in (*inputs[:i], *inputs[i + 1 :]))
        ):
            continue
        if mask.min() == 0 and mask.max() == 1 and bool((mask.any(1) & (mask.diff(dim=1) <= 0).all(1)).all()):
            return mask.bool()
    return None


def batches_alike(inputs: Sequence[Tensor], size: int) -> list[tuple[Tensor, list[Tensor]]]:
    """Batches of at most ``size`` samples, each as its rows ``(batch,)`` and its inputs.

    Padded sequences of about one length come together, without the tokens that all of a batch have filled up; other
    samples come in order.
    """
    mask = token_mask(inputs)
    if mask is None:
        rows = torch.arange(len(inputs[0]))
        return [(part, [tensor[part] for tensor in inputs]) for part in torch.split(rows, size)]
    lengths = mask.sum(1)
    ragged = [tensor.shape == mask.shape and not tensor.is_floating_point() for tensor in inputs]
    found = []
    for rows in torch.split(lengths.argsort(stable=True), size):
        longest = int(lengths[rows].max())
        found.append((rows, [t[rows, :longest] if cut else t[rows] for t, cut in zip(inputs, ragged)]))
    return found


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` in the place called ``name``, and wherever else the module that stands there is used."""
    old = model.get_submodule(name)
    for other, same in list(model.named_modules(remove_duplicate=False)):
        if same is old:
            parent, _, child = other.rpartition(".")
            setattr(model.get_submodule(parent), child, module)


def overlapping(name: str, modules: Iterable[str]) -> bool:
    """Whether a module is, lies in or holds one of ``modules``."""
    return any(under(name, [module]) or under(module, [name]) for module in modules)


def under(name: str, modules: Iterable[str]) -> bool:
    """Whether a module is one of ``modules``, or within one of them."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)
