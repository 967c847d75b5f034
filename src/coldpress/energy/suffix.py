"""Running only what comes after a change: everything that ends before it is answered from one recorded run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from coldpress.network import batches_alike, evaluating, logits_of, token_mask

Forward = Callable[..., Any]
BATCH = 64


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
        base: modules that are replaced in the recorded run already.
        batch: images in one go; more do not fit a processor's own caches. Texts are taken by length, each part without
            the filling that all of it has; where every token has logits they are left as they are.

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

    def __init__(
        self, model: nn.Module, inputs: Sequence[Tensor], base: Mapping[str, Forward] | None = None, batch: int = BATCH
    ) -> None:
        self.model, self.base = model, dict(base or {})
        self.batch = batch
        self.parts = [[t[i : i + batch] for t in inputs] for i in range(0, max(len(inputs[0]), 1), batch)]
        self._inputs = inputs
        self._places: Tensor | None = None  # of each sample among those that the parts hold; None: as given
        self.logits: Tensor
        self._records: list[dict[str, _Call]] = []
        self._calls: dict[str, _Call] = {}  # of the part that is running
        self._replaced: Mapping[str, Forward] = self.base
        self._first = -1
        self._clock = 0
        self._recording = self._writes = False
        self._wrapped: list[nn.Module] = []

    def __enter__(self) -> Suffix:
        if token_mask(self._inputs) is not None:
            self._sort()
        for name, module in self.model.named_modules():
            if name:
                module.forward = self._wrap(name, module.forward)  # type: ignore[method-assign]
                self._wrapped.append(module)
        try:
            given = self.parts
            try:
                self.logits = self._record([[_channels_last(t) for t in part] for part in given])
            except RuntimeError:  # a view that this order of the memory does not allow
                self.logits = self._record(given)
        except BaseException:
            self._unwrap()
            raise
        return self

    def _sort(self) -> None:
        """Make parts of texts of about one length, where each gives one row of logits whatever filling comes behind."""
        batches = batches_alike(self._inputs, self.batch)
        first, parts = batches[0][0], [part for _, part in batches]
        try:
            with evaluating(self.model):
                cut = logits_of(self.model(*[tensor.clone() for tensor in parts[0]]))
                whole = logits_of(self.model(*[tensor[first] for tensor in self._inputs]))
        except (RuntimeError, ValueError, IndexError):  # a model of texts of one length
            return
        if len(cut) == len(first) and torch.allclose(cut, whole, atol=1e-4 * float(whole.abs().max()), rtol=0.0):
            self.parts, self._places = parts, torch.cat([rows for rows, _ in batches]).argsort()

    def _joined(self, found: list[Tensor]) -> Tensor:
        """The parts' logits in the order of the inputs."""
        logits = torch.cat(found)
        return logits if self._places is None else logits[self._places]

    def _record(self, parts: list[list[Tensor]]) -> Tensor:
        self.parts, self._records, self._recording, found = parts, [], True, []
        for part in parts:
            self._calls, self._clock = {}, 0
            given = [tensor.clone() for tensor in part]
            versions = [tensor._version for tensor in given]
            with evaluating(self.model):
                found.append(logits_of(self.model(*given)))
            self._writes |= [tensor._version for tensor in given] != versions
            self._records.append(self._calls)
        self._recording = False
        return self._joined(found)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unwrap()

    def _unwrap(self) -> None:
        for module in self._wrapped:
            del module.forward
        self._wrapped.clear()
        self._calls = {}
        self._records.clear()

    def run(self, replaced: Mapping[str, Forward]) -> Tensor:
        """The logits with the forward of some modules replaced (of no others, ``base`` or not): ``(images, classes)``.

        It starts at the first module whose replacement is not equal to that in ``base``.
        """
        new = {name for name in {*replaced, *self.base} if replaced.get(name) != self.base.get(name)}
        reached = [self._records[0][name].start for name in new if name in self._records[0]]
        if not reached:
            return self.logits
        self._replaced, self._first, found = replaced, min(reached), []
        try:
            with evaluating(self.model):
                for part, record in zip(self.parts, self._records):
                    self._calls = record
                    given = [tensor.clone() for tensor in part] if self._writes else part
                    found.append(logits_of(self.model(*given)))
        finally:
            self._replaced, self._first = self.base, -1
        return self._joined(found)

    def full_pass(self) -> float:
        """Seconds of one run of the whole network, nothing taken from the record."""
        start = time.perf_counter()
        with evaluating(self.model):
            for part, record in zip(self.parts, self._records):
                self._calls = record
                self.model(*[tensor.clone() for tensor in part])
        return time.perf_counter() - start

    def memory(self) -> int:
        """Bytes of all recorded outputs."""
        calls = [call.output for record in self._records for call in record.values()]
        outputs = {id(output): output for output in calls if isinstance(output, Tensor)}
        return sum(output.numel() * output.element_size() for output in outputs.values())

    def _wrap(self, name: str, forward: Forward) -> Forward:
        def record(*args: Any, **kwargs: Any) -> Any:
            start, self._clock = self._clock, self._clock + 1
            read = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            before = [value._version for value in read]
            output = self.base.get(name, forward)(*args, **kwargs)
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
            known = self._calls.get(name)
            if known is not None and known.end < self._first and known.usable():
                return known.output
            return self._replaced.get(name, forward)(*args, **kwargs)

        return call


def _channels_last(tensor: Tensor) -> Tensor:
    """Images with their channels innermost, which is how convolutions run fastest on a processor."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor
