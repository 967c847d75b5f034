"""Attention hints: a compressed transformer is also taught where the original attends (see `relations`)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from coldpress.errors import TaskError
from coldpress.network import NotedCalls, forwarding, watch_functions
from coldpress.plan import Plan, Space
from coldpress.recovery.relations import Attended, attended, attention_distance

logger = logging.getLogger("coldpress.recovery")

FUNCTION = "scaled_dot_product_attention"


def attention_modules(model: nn.Module, example_inputs: Sequence[Tensor]) -> tuple[str, ...]:
    """Names of the modules that call ``scaled_dot_product_attention`` themselves, seen in one run, in its order."""
    entered: list[str] = []
    found: dict[str, None] = {}

    def enter(name: str) -> Callable[..., None]:
        return lambda module, arguments: entered.append(name)

    def leave(module: nn.Module, arguments: Any, output: Any) -> None:
        entered.pop()

    def note(called: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if called == FUNCTION and attended(*arguments, **named).query.dim() == 4:
            found[entered[-1]] = None

    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_pre_hook(enter(name)).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        watch_functions(model, [tensor.to(device) for tensor in example_inputs], note)
    return tuple(found)


def check_attention(model: nn.Module, example_inputs: Sequence[Tensor]) -> tuple[str, ...]:
    """The modules that attend. Raises TaskError where there are none whose attention could be taught."""
    modules = attention_modules(model, example_inputs)
    if not modules:
        raise TaskError(
            f"attention_weight is above 0, but {type(model).__name__} has no attention to teach: it nowhere calls "
            f"{FUNCTION}; leave attention_weight at 0"
        )
    return modules


def common_attention(student: nn.Module, teacher: nn.Module, example_inputs: Sequence[Tensor]) -> tuple[str, ...]:
    """The modules that attend in both; none where all attention of the student was dropped.

    Raises:
        TaskError: the teacher has no attention, or the student's is in modules of other names.
    """
    theirs, own = check_attention(teacher, example_inputs), attention_modules(student, example_inputs)
    common = tuple(name for name in theirs if name in own)
    if own and not common:
        raise TaskError(
            f"the student attends in {own[0]!r} and so on, the teacher in {theirs[0]!r}: attention is compared between "
            "modules of the same name; name them alike, or leave attention_weight at 0"
        )
    if not own:
        logger.warning("the student has no attention left that could be taught")
    return common


def kept_heads(space: Space, plan: Plan) -> dict[str, Tensor]:
    """Which heads of the original remain, ``(heads of keys,)`` bool, by the module that holds their projections."""
    found = {}
    for name, group in space.groups.items():
        owners = {member.module.rpartition(".")[0] for member in group.of_role("out")}
        if group.atom > 1 and len(owners) == 1:
            heads = torch.zeros(group.channels // group.atom, dtype=torch.bool)
            heads[[channel // group.atom for channel in plan.kept.get(name, range(group.channels))]] = True
            found[owners.pop()] = heads
    return found


class AttentionHints:
    """Distance between a student's and its teacher's attention, while the context lasts.

    Args:
        student, teacher: networks whose modules have the same names.
        modules: that attend in both (see `attention_modules`).
        kept: by module, the teacher's heads that remain (see `kept_heads`).
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, modules: Sequence[str], kept: Mapping[str, Tensor]
    ) -> None:
        self.student, self.teacher, self.modules, self.kept = student, teacher, tuple(modules), kept
        self._seen: dict[str, list[Attended]] = {}
        self._wanted: dict[str, list[Attended]] = {}
        self._watched = ExitStack()

    def __enter__(self) -> AttentionHints:
        for network, store in ((self.student, self._seen), (self.teacher, self._wanted)):
            watched = {name: self._watching(network.get_submodule(name), name, store) for name in self.modules}
            self._watched.enter_context(forwarding(network, watched))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watched.close()

    def _watching(self, module: nn.Module, name: str, store: dict[str, list[Attended]]) -> Callable[..., Any]:
        forward = module.forward

        def note(called: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            if called == FUNCTION:
                store.setdefault(name, []).append(attended(*arguments, **named))

        def watched(*arguments: Any, **named: Any) -> Any:
            if not self.student.training:
                return forward(*arguments, **named)
            with NotedCalls(note):
                return forward(*arguments, **named)

        return watched

    def distance(self) -> Tensor | float:
        """Mean over the calls of attention (see `attention_distance`) in the last pass of both."""
        found = [
            attention_distance(own, wanted, self.kept.get(name))
            for name, calls in self._wanted.items()
            for own, wanted in zip(self._seen.get(name, ()), calls)
        ]
        self._seen.clear()
        self._wanted.clear()
        return torch.stack(found).mean() if found else 0.0
