"""What happens in one run of a network, as numbered events: calls of its layers and norms, and functions between.

A network and its compressed form run through the same events in the same order (factor layers count as one, dropped
blocks still run until the end, but hand on their input or nothing), so an event's number names the same place in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from coldpress.network import LAYER_TYPES, evaluating

NORM_TYPES = (nn.modules.batchnorm._BatchNorm,)
ADDITIONS = {"add", "add_", "__add__", "__radd__", "__iadd__"}


@dataclass(frozen=True)
class Event:
    """One call: the module's name or the function's, the events whose outputs it read, and its output's shape."""

    name: str
    inputs: tuple[int | None, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Shortcut:
    """The sum that a layer's branch ends in.

    Attributes:
        total: event of the sum.
        other: event of the other operand, which is there before the layer runs.
        norm: name of the norm between the layer and the sum, or None.
    """

    total: int
    other: int
    norm: str | None


Watcher = Callable[[int, str, Sequence[Tensor], Tensor], None]
"""Told of every event as it happens: its number, its name, the tensors read, the output."""


class _Events(TorchFunctionMode):
    def __init__(self, watch: Watcher) -> None:
        super().__init__()
        self.watch, self.count, self.depth = watch, 0, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if self.depth == 0 and isinstance(output, Tensor):
            self.emit(getattr(func, "__name__", str(func)), [a for a in args if isinstance(a, Tensor)], output)
        return output

    def emit(self, name: str, inputs: Sequence[Tensor], output: Tensor) -> None:
        number = self.count
        self.count += 1
        self.depth += 1  # what the watcher computes is no event
        try:
            self.watch(number, name, inputs, output)
        finally:
            self.depth -= 1


def opaque_modules(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules whose calls are single events: layers, norms and tables."""
    single = (*LAYER_TYPES, *NORM_TYPES, nn.Embedding)
    return tuple(name for name, module in model.named_modules() if isinstance(module, single))


@contextmanager
def watching(
    model: nn.Module,
    opaque: Sequence[str],
    watch: Watcher,
    before: Mapping[str, Any] | None = None,
    dropped: Mapping[str, bool] | None = None,
) -> Iterator[nn.Module]:
    """The model, ready to run once in evaluation mode, its events told to ``watch``.

    Args:
        model: the network; must have a module for each name in ``opaque``.
        opaque: modules whose calls are single events.
        watch: told of every event.
        before: by module name, called with the module's input right before it runs.
        dropped: modules that hand on their first input instead of their output or, where True, no channel of it.
    """
    mode = _Events(watch)
    handles = []

    def enter(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if mode.depth == 0 and before and name in before:
                mode.depth += 1
                before[name](inputs[0])
                mode.depth -= 1
            mode.depth += 1

        return hook

    def leave(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            mode.depth -= 1
            if mode.depth == 0:
                mode.emit(name, [inputs[0]], output)

        return hook

    given: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        mode.depth += 1
        given[module] = inputs[0].clone()  # the block may work in place
        mode.depth -= 1

    def hand_on(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor:
        return given.pop(module)

    def leave_out(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor:
        mode.depth += 1
        nothing: Tensor = output[:, :0]
        mode.depth -= 1
        return nothing

    for name, absent in (dropped or {}).items():
        module = model.get_submodule(name)
        if absent:
            handles.append(module.register_forward_hook(leave_out))
        else:
            handles += [module.register_forward_pre_hook(keep), module.register_forward_hook(hand_on)]
    for name in opaque:
        module = model.get_submodule(name)
        handles += [module.register_forward_pre_hook(enter(name)), module.register_forward_hook(leave(name))]
    try:
        with evaluating(model), mode:
            yield model
    finally:
        for handle in handles:
            handle.remove()


def record(model: nn.Module, example_inputs: Sequence[Tensor]) -> list[Event]:
    """The events of one run on a few examples."""
    events: list[Event] = []
    numbers: dict[int, int] = {}
    alive: list[Tensor] = []  # an id is only unique while its tensor lives

    def watch(number: int, name: str, inputs: Sequence[Tensor], output: Tensor) -> None:
        events.append(Event(name, tuple(numbers.get(id(tensor)) for tensor in inputs), tuple(output.shape)))
        numbers[id(output)] = number
        alive.append(output)

    examples = [tensor[:2] for tensor in example_inputs]
    with watching(model, opaque_modules(model), watch) as run:
        run(*examples)
    return events


def shortcuts(events: Sequence[Event], layers: Sequence[str], norms: Sequence[str]) -> dict[int, Shortcut]:
    """For each call of a layer whose output goes, through at most a norm, into a sum: that sum, by the call's event.

    The sum counts if its other side is there first.

    Of two layers that feed the same sum only the one that runs last can make up for the other.
    """
    readers: dict[int, list[int]] = {}
    for number, event in enumerate(events):
        for source in set(event.inputs):
            if source is not None:
                readers.setdefault(source, []).append(number)
    found: dict[int, Shortcut] = {}
    wanted = set(layers)
    for start, event in enumerate(events):
        if event.name not in wanted:
            continue
        current, norm = start, None
        while len(readers.get(current, ())) == 1:
            (reader,) = readers[current]
            following = events[reader]
            if following.name in norms and norm is None:
                current, norm = reader, following.name
            elif following.name.startswith("dropout"):
                current = reader
            elif following.name in ADDITIONS and len(following.inputs) == 2 and len(set(following.inputs)) == 2:
                other = next(source for source in following.inputs if source != current)
                if other is not None and other < start and events[other].shape == events[current].shape:
                    found[start] = Shortcut(reader, other, norm)
                break
            else:
                break
    return found
