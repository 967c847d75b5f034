"""Muon for networks with convolutions: torch's, on matrices that share the memory of the weights, and SGD for the rest.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) makes the momentum of a weight matrix orthogonal
before it steps, so that all directions learn alike. That counts most where epochs are few.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class MuonSGD(torch.optim.Optimizer):
    """Muon for weights of two and more dimensions, Nesterov SGD for biases and norms.

    Args:
        model: its parameters that require a gradient; convolutions may be in channels-last order.
        lr: of the matrices; an orthogonal step of this size, times sqrt(max(1, rows / columns)).
        vector_lr: of the others, in multiples of ``lr``.
        momentum: of both.
    """

    def __init__(self, model: nn.Module, lr: float, vector_lr: float = 4.0, momentum: float = 0.9) -> None:
        trained = [p for p in model.parameters() if p.requires_grad]
        super().__init__(trained, {"lr": lr})
        self.vector_lr = vector_lr
        self._weights = [p for p in trained if p.dim() > 1]
        self._matrices = [nn.Parameter(_matrix(p.data)) for p in self._weights]
        if any(m.data_ptr() != w.data_ptr() for m, w in zip(self._matrices, self._weights)):
            raise ValueError("a weight's memory has holes or an order of its own; make it contiguous first")
        vectors = [p for p in trained if p.dim() <= 1]
        self._parts: list[torch.optim.Optimizer] = []
        if self._matrices:
            self._parts.append(torch.optim.Muon(self._matrices, lr=lr, momentum=momentum, weight_decay=0.0))
        if vectors:
            self._parts.append(torch.optim.SGD(vectors, lr=lr, momentum=momentum, nesterov=True))

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step by the gradients, at the learning rate of the first group."""
        lr = self.param_groups[0]["lr"]
        for matrix, weight in zip(self._matrices, self._weights):
            matrix.grad = None if weight.grad is None else _matrix(weight.grad).contiguous()
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = lr * (self.vector_lr if isinstance(part, torch.optim.SGD) else 1.0)
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self._parts, state_dict["parts"]):
            part.load_state_dict(state)


def _matrix(tensor: Tensor) -> Tensor:
    """``(outputs, rest)`` of a weight or gradient; for dense weights in either memory order a view."""
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1).reshape(len(tensor), -1)
    return tensor.reshape(len(tensor), -1)
