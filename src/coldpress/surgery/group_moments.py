"""Second moments of the inputs of grouped convolutions: every group has a matrix of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from coldpress.errors import TaskError
from coldpress.network import evaluating
from coldpress.surgery.moments import Moments, columns, input_rows, sample_positions

MOST_AT_ONCE = 1024
"""Columns that are unfolded at once: all of a wide depthwise layer would take its inputs' memory many times over."""


def group_rows(module: nn.Conv2d, inputs: Tensor, positions: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Some groups at a time: which, and their unfolded inputs with the constant 1 appended.

    Args:
        module: the convolution.
        inputs: its input, ``(batch, channels, height, width)``.
        positions: output positions to look at, indices into the flattened ones.

    Yields:
        Groups, and rows ``(groups, batch * positions, columns + 1)``, float64: a group's few inputs may be constant,
        and the variance that sums in single precision leave then is noise, below zero at times.
    """
    width, each = columns(module), module.in_channels // module.groups
    step = max(1, MOST_AT_ONCE // width)
    for first in range(0, module.groups, step):
        part = slice(first, min(first + step, module.groups))
        rows = input_rows(module, inputs[:, part.start * each : part.stop * each], positions)
        rows = rows.reshape(len(rows), -1, width).transpose(0, 1).double()
        yield part, torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], dim=2)


def group_sums(module: nn.Conv2d, inputs: Tensor, positions: Tensor) -> Tensor:
    """Sums of x x^T over a batch, ``(groups, columns + 1, columns + 1)``, float64."""
    return torch.cat([rows.mT @ rows for _, rows in group_rows(module, inputs, positions)])


def group_products(module: nn.Conv2d, inputs: Tensor, positions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """`group_sums`, and the sums of y x^T, ``(groups, outputs of a group, columns + 1)``, float64.

    Args:
        module, inputs, positions: see `group_rows`.
        target: y, ``(batch * positions, outputs)``.
    """
    wanted = target.reshape(len(target), module.groups, -1).transpose(0, 1).double()
    moments, products = [], []
    for part, rows in group_rows(module, inputs, positions):
        moments.append(rows.mT @ rows)
        products.append(wanted[part].mT @ rows)
    return torch.cat(moments), torch.cat(products)


def collect_group_moments(
    model: nn.Module, names: Sequence[str], inputs: Sequence[Tensor], seed: int = 0, batch_size: int = 128
) -> dict[str, Moments]:
    """Moments of the named grouped convolutions' inputs, ``(groups, columns + 1, columns + 1)`` each, in one pass.

    Args:
        model: the network.
        names: grouped convolutions; where there are none, the network does not run.
        inputs: calibration inputs, each ``(images, ...)``.
        seed: decides which positions are sampled.
        batch_size: images a step.

    Raises:
        TaskError: the inputs of a layer are not finite.
    """
    modules = {model.get_submodule(name): name for name in names}
    images, generator = len(inputs[0]), torch.Generator().manual_seed(seed)
    sums: dict[str, Tensor] = {}
    rows = dict.fromkeys(names, 0)

    def add(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        name, tensor = modules[module], arguments[0].detach()
        positions = sample_positions(module, tensor, images, generator)
        own = group_sums(module, tensor, positions)
        sums[name] = sums[name].add_(own) if name in sums else own
        rows[name] += len(tensor) * len(positions)

    handles = [module.register_forward_pre_hook(add) for module in modules]
    try:
        with evaluating(model):
            for start in range(0, images if modules else 0, batch_size):
                model(*[tensor[start : start + batch_size] for tensor in inputs])
    finally:
        for handle in handles:
            handle.remove()
    for name, total in sums.items():
        if not torch.isfinite(total).all():
            raise TaskError(f"the inputs of {name!r} hold NaN or Inf on calibration data; check the data and the model")
    return {name: Moments(total / rows[name], rows[name]) for name, total in sums.items()}
