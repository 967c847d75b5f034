"""Small networks with the structures that matter to export and quantisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions with batch norm and a shortcut, twice; then a mean and a linear layer."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.first = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.stem(x)))
        y = self.bn2(self.second(torch.relu(self.bn1(self.first(x)))))
        x = torch.relu(x + y)
        return self.head(x.mean((2, 3), keepdim=True).flatten(1))


def residual(seed: int = 0) -> Residual:
    """With batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    model = Residual()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
                module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
                module.weight.add_(1.0)
    return model


class Wide(nn.Module):
    """Two inputs, a tuple out, and a linear layer on a sequence (a MatMul in ONNX)."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(6, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.mix(a) + b)
        return self.head(x.mean(1)), x


class Dict(nn.Module):
    """Returns what cannot be exported."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": x}


class Branching(nn.Module):
    """Control flow that depends on the data."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if bool(x.sum() > 0) else x


class Again(nn.Module):
    """One large layer, called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(200, 200)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = torch.tanh(self.mix(x))
        return x.mean(1)
