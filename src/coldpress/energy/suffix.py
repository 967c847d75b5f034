"""Running only what comes after a change: everything that ends before it is answered from one recorded run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from coldpress.network import evaluating, first_tensor

Forward = Callable[..., Any]


@dataclass
class _Call:
    start: int
    end: int
    output: Any
    version: int
    wrote: bool
    calls: int = 1

    def usable(self) -> bool:
        """Whether the output stands for the call: a tensor unwritten since, by a module that left its inputs alone."""
        pure = self.calls == 1 and not self.wrote
        return pure and isinstance(self.output, Tensor) and self.output._version == self.version


class Suffix:
    """A network with one recorded run on fixed inputs; runs with some modules replaced start at the first of them.

    Use as a context: outside it the network is untouched.

    Args:
        model: the network.
        inputs: its inputs, each ``(images, ...)``. All modules' outputs on them are held in memory.

    Attributes:
        logits: output of the recorded run, ``(images, classes)``.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
        >>> with Suffix(net, [torch.ones(1, 2)]) as suffix:
        ...     changed = suffix.run({"2": lambda x: x * 0})
        >>> changed.tolist()
        [[0.0, 0.0]]
    """

    def __init__(self, model: nn.Module, inputs: Sequence[Tensor]) -> None:
        self.model, self.inputs = model, inputs
        self.logits: Tensor
        self._calls: dict[str, _Call] = {}
        self._replaced: Mapping[str, Forward] = {}
        self._first = -1
        self._clock = 0
        self._recording = self._writes = False
        self._wrapped: list[nn.Module] = []

    def __enter__(self) -> Suffix:
        for name, module in self.model.named_modules():
            if name:
                module.forward = self._wrap(name, module.forward)  # type: ignore[method-assign]
                self._wrapped.append(module)
        self._recording = True
        given = [tensor.clone() for tensor in self.inputs]
        versions = [tensor._version for tensor in given]
        try:
            with evaluating(self.model):
                self.logits = first_tensor(self.model(*given))
        except BaseException:
            self._unwrap()
            raise
        self._recording = False
        self._writes = [tensor._version for tensor in given] != versions
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unwrap()

    def _unwrap(self) -> None:
        for module in self._wrapped:
            del module.forward
        self._wrapped.clear()
        self._calls.clear()

    def run(self, replaced: Mapping[str, Forward]) -> Tensor:
        """The logits with the forward of some modules replaced: ``(images, classes)``."""
        reached = [self._calls[name].start for name in replaced if name in self._calls]
        if not reached:
            return self.logits
        self._replaced, self._first = replaced, min(reached)
        try:
            with evaluating(self.model):
                given = [tensor.clone() for tensor in self.inputs] if self._writes else self.inputs
                return first_tensor(self.model(*given))
        finally:
            self._replaced, self._first = {}, -1

    def memory(self) -> int:
        """Bytes of all recorded outputs."""
        outputs = {id(call.output): call.output for call in self._calls.values() if isinstance(call.output, Tensor)}
        return sum(output.numel() * output.element_size() for output in outputs.values())

    def _wrap(self, name: str, forward: Forward) -> Forward:
        def record(*args: Any, **kwargs: Any) -> Any:
            start, self._clock = self._clock, self._clock + 1
            read = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            before = [value._version for value in read]
            output = forward(*args, **kwargs)
            wrote = before != [value._version for value in read]
            end, self._clock = self._clock, self._clock + 1
            if name in self._calls:
                self._calls[name].calls += 1
            else:
                version = output._version if isinstance(output, Tensor) else 0
                self._calls[name] = _Call(start, end, output, version, wrote)
            return output

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._recording:
                return record(*args, **kwargs)
            if name in self._replaced:
                return self._replaced[name](*args, **kwargs)
            known = self._calls[name]
            if known.end < self._first and known.usable():
                return known.output
            return forward(*args, **kwargs)

        return call
