"""Sub-layers of transformers, attention and feed-forward parts, that may go by themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from coldpress.network import LAYER_TYPES, evaluating, first_tensor, forwarding, overlapping, under
from coldpress.plan import Branch
from coldpress.surgery.events import record, shortcuts
from coldpress.surgery.structure import Constant, Dropped


def constant_branches(
    model: nn.Module, example_inputs: Sequence[Tensor], ignored: Sequence[str] = (), blocks: Sequence[str] = ()
) -> tuple[Branch, ...]:
    """The sub-layers that may go, in the order of their last layers: only a constant of them is then added.

    A sub-layer ends in a linear layer whose output is added to tokens' features. With this layer's weights at zero, the
    outermost module that gives just its bias is the one that goes, and with it the module that only this layer reads.
    Each is tried: without these modules the network must run, and give what it gives with those weights at zero.

    Args:
        model: the network.
        example_inputs: its inputs, each ``(batch, ...)``.
        ignored: modules that neither go nor lie in what goes.
        blocks: modules that are dropped whole: where one holds no more layers than a sub-layer, this is not offered.
    """
    batch = [tensor[:2] for tensor in example_inputs]
    biases = _biases(model, batch)
    if not biases:
        return ()
    with _saying(model, biases), _seeing(model) as seen, evaluating(model):
        model(*batch)
    found = []
    for last, bias in biases.items():
        branch = _branch(model, last, bias, seen)
        if branch is None or any(overlapping(name, ignored) for name in branch.modules):
            continue
        layers = _layers(model, branch.modules)
        if any(_layers(model, [block]) <= layers for block in blocks):
            continue
        if _may_go(model, branch, bias, batch):
            found.append(branch)
    return tuple(found)


def _biases(model: nn.Module, batch: Sequence[Tensor]) -> dict[str, Tensor]:
    """The linear layers of tokens, several a sample, that end in a sum; each with a bias that no other module gives."""
    events = record(model, batch)
    linears = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    calls: dict[str, list[int]] = defaultdict(list)
    for number, event in enumerate(events):
        calls[event.name].append(number)
    ends = shortcuts(events, linears, ())
    generator, found = torch.Generator().manual_seed(0), {}
    for name in linears:
        if len(calls[name]) != 1 or calls[name][0] not in ends:
            continue
        if prod(events[calls[name][0]].shape[:-1]) > len(batch[0]):
            weight = model.get_submodule(name).get_parameter("weight")
            found[name] = torch.randn(len(weight), generator=generator).to(weight)
    return found


@contextmanager
def _saying(model: nn.Module, biases: Mapping[str, Tensor]) -> Iterator[None]:
    """Layers, by name, give a bias alone for a while."""
    with forwarding(model, {name: Constant(bias).forward for name, bias in biases.items()}):
        yield


@dataclass
class _Call:
    """The only call of a module: the first tensor given, what came out, and of how many values it was the first."""

    given: Tensor
    made: Tensor
    results: int


@dataclass
class _Seen:
    """The calls of all modules, by name, and for each how many there were."""

    calls: dict[str, _Call] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def once(self, name: str) -> _Call | None:
        return self.calls.get(name) if self.count[name] == 1 else None


@contextmanager
def _seeing(model: nn.Module) -> Iterator[_Seen]:
    seen = _Seen()

    def watch(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            seen.count[name] += 1
            tensors = [value for value in (*inputs, *named.values()) if isinstance(value, Tensor)]
            made = output[0] if type(output) is tuple and output else output
            if tensors and isinstance(made, Tensor):
                seen.calls[name] = _Call(tensors[0], made, len(output) if type(output) is tuple else 0)

        return hook

    modules = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(watch(name), with_kwargs=True) for name, module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _branch(model: nn.Module, last: str, bias: Tensor, seen: _Seen) -> Branch | None:
    """The sub-layer that a layer ends; None where nothing but the layer itself would go."""
    parts = last.split(".")
    above = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
    calls = {name: call for name in above if (call := seen.once(name)) is not None}
    says = [name for name, call in calls.items() if _is_constant(call.made, bias)]
    if not says:
        return None
    end = says[0]
    if len(_layers(model, [end])) > 1:
        return Branch(last, end, results=(calls[end].results, 0))
    before = _maker(model, calls[last].given, above, seen) if last in calls else None
    call = seen.once(before) if before else None
    if before is None or call is None:
        return None
    return Branch(last, end, before, (calls[end].results, call.results))


def _is_constant(made: Tensor, bias: Tensor) -> bool:
    return made.shape[-1:] == bias.shape and torch.equal(made, bias.expand_as(made))


def _maker(model: nn.Module, tensor: Tensor, above: Sequence[str], seen: _Seen) -> str | None:
    """The outermost module of layers that made a tensor, straight or through modules without any."""
    for _ in range(len(above) + 1):
        makers = [name for name, call in seen.calls.items() if call.made is tensor and name not in above]
        if not makers:
            return None
        outermost = min(makers, key=lambda name: name.count("."))
        if _layers(model, [outermost]):
            return outermost
        tensor = seen.calls[outermost].given
    return None


def _layers(model: nn.Module, modules: Sequence[str]) -> set[str]:
    """Names of the layers within modules."""
    return {name for name, module in model.named_modules() if isinstance(module, LAYER_TYPES) and under(name, modules)}


def _may_go(model: nn.Module, branch: Branch, bias: Tensor, batch: Sequence[Tensor]) -> bool:
    stubs = {branch.end: Constant(bias, branch.results[0]).forward}
    if branch.before:
        stubs[branch.before] = Dropped(branch.results[1]).forward
    try:
        with evaluating(model):
            with _saying(model, {branch.last: bias}):
                wanted = first_tensor(model(*batch))
            with forwarding(model, stubs):
                got = first_tensor(model(*batch))
    except Exception:  # what does not run without a part keeps it
        return False
    scale = max(float(wanted.abs().max()), 1e-6)
    return got.shape == wanted.shape and float((got - wanted).abs().max()) <= 1e-5 * scale
