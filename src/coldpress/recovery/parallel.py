"""Training by several processes, as ``accelerate launch`` or torchrun starts them: each takes a share of every batch.

Steps, learning rates and the order of samples are those of one process, and gradients are averaged before each step,
so that the weights are, too. What is no mean over samples is that of a share: BatchNorm normalises by its statistics
(the running ones are the mean over processes), and hints by the size of its activations. One process alone is asked
for nothing here.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from coldpress.errors import TaskError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """The processes that train together.

    Attributes:
        count: how many there are.
        index: of this one; 0 is the main one, which alone writes files, judges and reports.
        device: of this one; None where it is alone and may choose.
    """

    count: int = 1
    index: int = 0
    device: torch.device | None = None

    @property
    def main(self) -> bool:
        return self.index == 0

    def share(self, tensor: Tensor) -> Tensor:
        """This process's rows of a batch ``(batch, ...)``."""
        return tensor[self.index :: self.count] if self.count > 1 else tensor

    def from_main(self, compute: Callable[[], Value]) -> Value:
        """What the main process computes, in every process."""
        if self.count == 1:
            return compute()
        from accelerate.utils import broadcast_object_list

        found: Value = broadcast_object_list([compute() if self.main else None])[0]
        return found

    def average_gradients(self, parameters: Iterable[nn.Parameter], loss: float) -> float:
        """Put the mean over processes in place of every gradient; returns the mean of ``loss``."""
        if self.count == 1:
            return loss
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        *means, mean = self._mean([*gradients, torch.tensor([loss])])
        for gradient, found in zip(gradients, means):
            gradient.copy_(found)
        return mean.item()

    def average_buffers(self, model: nn.Module) -> None:
        """Put the mean over processes in place of every buffer of numbers that are no counts."""
        buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        if self.count > 1 and buffers:
            for buffer, found in zip(buffers, self._mean(buffers)):
                buffer.copy_(found)

    def equalise(self, *models: nn.Module) -> None:
        """Give all processes the weights and buffers of the main one."""
        if self.count == 1:
            return
        from accelerate.utils import broadcast

        for model in models:
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.data.copy_(broadcast(tensor.detach().contiguous().to(self.device)))

    def _mean(self, tensors: list[Tensor]) -> list[Tensor]:
        from accelerate.utils import reduce

        flat = reduce(torch.cat([tensor.detach().float().flatten().to(self.device) for tensor in tensors]), "mean")
        parts = flat.split([tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors)]


@functools.cache
def processes() -> Processes:
    """The processes that this one was launched with, by the variables that launchers set.

    Raises:
        TaskError: there are several, and accelerate is not installed.
    """
    count = int(os.environ.get("WORLD_SIZE", "1")) if "LOCAL_RANK" in os.environ else 1
    if count < 2:
        return Processes()
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise TaskError(
            f"{count} processes were launched to train together, which needs accelerate; install it with: "
            "pip install 'coldpress[distributed]', or launch one process"
        ) from error
    found = Accelerator(cpu=not torch.cuda.is_available())
    return Processes(found.num_processes, found.process_index, found.device)


def check_alone(what: str) -> None:
    """Raise TaskError where ``what`` is asked for by several processes that were launched together."""
    count = processes().count
    if count > 1:
        raise TaskError(
            f"{what} was launched as {count} processes, but it plans by times that one process must measure alone: "
            "start it without a launcher. Training is what several can share: coldpress train, or fit and distil of "
            "coldpress.recovery"
        )
