"""BatchNorm recalibration: running statistics computed anew on calibration inputs, nothing else changed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from coldpress.errors import TaskError


def recalibrate(model: nn.Module, inputs: tuple[Tensor, ...], batch_size: int = 256) -> int:
    """Set the running mean and variance of every BatchNorm to those of its inputs on calibration data, in place.

    Statistics are pooled over all samples in float64 (not averaged over batches). Every BatchNorm normalises by its
    batch meanwhile, as in training; all other layers are in eval mode. The model is left in eval mode.

    Args:
        model: any module on any device.
        inputs: calibration inputs, each ``(samples, ...)``.
        batch_size: samples a pass; as many as fit in memory are best.

    Returns:
        How many BatchNorm layers were recalibrated; those that the forward pass does not reach keep their statistics.

    Raises:
        TaskError: there are fewer than two samples.
    """
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    model.eval()
    if not layers:
        return 0
    samples = len(inputs[0])
    if samples < 2:
        raise TaskError(
            f"BatchNorm cannot be recalibrated on {samples} sample; give 2 or more, some hundreds if possible"
        )
    home = next(model.parameters()).device
    pooled = {layer: _Moments() for layer in layers}
    momenta = {layer: layer.momentum for layer in layers}
    hooks = [layer.register_forward_pre_hook(_observer(pooled[layer])) for layer in layers]
    chunks = -(-samples // max(2, batch_size))
    try:
        for layer in layers:
            layer.train()
            layer.momentum = 0.0
        with torch.no_grad():
            # Parts of nearly equal size: no last batch of one sample.
            for batch in zip(*(x.tensor_split(min(chunks, samples // 2)) for x in inputs)):
                model(*(x.to(home) for x in batch))
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers:
            layer.momentum = momenta[layer]
        model.eval()
    for layer, moments in pooled.items():
        moments.write(layer)
    return sum(moments.count > 1 for moments in pooled.values())


class _Moments:
    """Count, mean and sum of squared deviations of a stream, by channel (Chan et al.'s pairwise update)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        rows = x.detach().transpose(0, 1).flatten(1).double()
        count, mean = rows.shape[1], rows.mean(1)
        squares = (rows - mean[:, None]).square().sum(1)
        delta, total = mean - self.mean, self.count + count
        self.squares = self.squares + squares + delta.square() * (self.count * count / total)
        self.mean = self.mean + delta * (count / total)
        self.count = total

    def write(self, layer: _BatchNorm) -> None:
        if self.count < 2 or layer.running_mean is None or layer.running_var is None:
            return
        layer.running_mean.copy_(torch.as_tensor(self.mean))
        layer.running_var.copy_(torch.as_tensor(self.squares) / (self.count - 1))


def _observer(moments: _Moments) -> Any:
    return lambda layer, args: moments.add(args[0])
