"""Second moments of layers' inputs: the X X^T that least squares, OBS and whitened factorisation share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from coldpress.errors import TaskError
from coldpress.network import evaluating, token_mask
from coldpress.surgery.leastsquares import damping_for

MOST_COLUMNS = 6000
"""Layers with more inputs than this get no second moments (their matrix would not fit)."""

MOST_ROWS = 65_536
"""Rows that a layer is looked at at most."""

UNSEEN = 0.1
"""The share of all rows of a table, seen or not, in its moments."""


@dataclass(frozen=True)
class Moments:
    """Second moments of a layer's unfolded inputs with a constant 1 appended.

    Attributes:
        matrix: ``(columns + 1, columns + 1)``, float64, the mean of x x^T over the rows seen.
        rows: how many rows were seen.
    """

    matrix: Tensor
    rows: int

    @property
    def damping(self) -> float:
        """The ridge that least squares on these rows calls for."""
        return damping_for(len(self.matrix), self.rows)


def unfolds_by_group(module: nn.Module) -> bool:
    """Whether each group of a layer is one matrix on unfolded inputs: zeros, the same on both sides, as padding."""
    if not isinstance(module, nn.Conv2d):
        return isinstance(module, nn.Linear)
    even = any(d * (k - 1) % 2 for k, d in zip(module.kernel_size, module.dilation))
    return module.padding_mode == "zeros" and not (module.padding == "same" and even)


def unfolds(module: nn.Module) -> bool:
    """Whether a layer is one matrix on unfolded inputs: it has one group, see `unfolds_by_group`."""
    return unfolds_by_group(module) and groups_of(module) == 1


def groups_of(module: nn.Module) -> int:
    """The groups of a convolution; a linear layer is one."""
    return module.groups if isinstance(module, nn.Conv2d) else 1


def factors(module: nn.Module) -> bool:
    """Whether a layer may become a product of smaller ones: it is one matrix, or a table of embeddings."""
    return isinstance(module, nn.Embedding) or unfolds(module)


def columns(module: nn.Module) -> int:
    """Number of unfolded inputs of a linear or a convolution, of each of its groups; the features of a table."""
    weight = module.get_parameter("weight")
    return int(weight[0].numel())


def wanted_rows(module: nn.Module) -> int:
    """How many rows (images x positions) are sampled for a layer."""
    return min(max(4 * columns(module), 16_384), MOST_ROWS)


def sample_positions(
    module: nn.Module, inputs: Tensor, images: int, generator: torch.Generator, mask: Tensor | None = None
) -> Tensor:
    """Output positions at which to look at a layer, so that ``images`` of them give the wanted number of rows.

    Of texts as many as give so many real tokens, and the first token always: some networks read their answer there.

    Args:
        module: Conv2d or Linear.
        inputs: its input, ``(batch, channels, height, width)`` or ``(batch, ..., features)``.
        images: how many images will be looked at in all.
        generator: source of randomness.
        mask: which tokens of all texts are real, ``(images, tokens)``, see `token_mask`.

    Returns:
        ``(positions,)`` indices into the flattened output positions.
    """
    if isinstance(module, nn.Conv2d):
        height, width = _output_size(module, inputs)
        total = height * width
    else:
        total = inputs[0].numel() // inputs.shape[-1]
    if mask is None or not _on_tokens(module, inputs, mask):
        count = min(total, max(1, -(-wanted_rows(module) // max(images, 1))))
        return torch.randperm(total, generator=generator)[:count].sort().values
    each = images * float(mask.float().mean())  # real tokens that a position has, in the mean
    count = min(total, max(1, math.ceil(wanted_rows(module) / max(each, 1.0))))
    others = 1 + torch.randperm(total - 1, generator=generator)[: count - 1]
    return torch.cat([torch.zeros(1, dtype=torch.int64), others]).sort().values


def input_rows(module: nn.Module, inputs: Tensor, positions: Tensor) -> Tensor:
    """Unfolded inputs of a layer at some output positions: ``(batch * positions, columns)``, groups = 1."""
    if isinstance(module, nn.Linear):
        flat = inputs.reshape(inputs.shape[0], -1, inputs.shape[-1])
        return flat[:, positions].reshape(-1, inputs.shape[-1])
    assert isinstance(module, nn.Conv2d)
    (kh, kw), (sh, sw), (dh, dw) = module.kernel_size, module.stride, module.dilation
    if any(padding_of(module)):
        top, left = padding_of(module)
        inputs = functional.pad(inputs, (left, left, top, top))
    _, width = _output_size(module, inputs, padded=True)
    y, x = (positions // width) * sh, (positions % width) * sw
    offsets = [(i * dh, j * dw) for i in range(kh) for j in range(kw)]
    parts = [inputs[:, :, y + dy, x + dx] for dy, dx in offsets]  # each (batch, channels, positions)
    return torch.stack(parts, dim=-1).permute(0, 2, 1, 3).reshape(inputs.shape[0] * len(positions), -1)


def output_rows(module: nn.Module, outputs: Tensor, positions: Tensor) -> Tensor:
    """Outputs of a layer (or any tensor of that shape) at some positions: ``(batch * positions, channels)``."""
    if isinstance(module, nn.Linear):
        return outputs.reshape(outputs.shape[0], -1, outputs.shape[-1])[:, positions].reshape(-1, outputs.shape[-1])
    return outputs.flatten(2)[:, :, positions].permute(0, 2, 1).reshape(-1, outputs.shape[1])


def _on_tokens(module: nn.Module, inputs: Tensor, mask: Tensor) -> bool:
    """Whether a layer runs on each token of texts."""
    return isinstance(module, nn.Linear) and inputs.dim() == 3 and inputs.shape[1] == mask.shape[1]


def real_rows(module: nn.Module, inputs: Tensor, positions: Tensor, mask: Tensor | None) -> Tensor | None:
    """Which of a layer's rows (see `input_rows`) are of real tokens, ``(batch * positions,)`` bool; None: all."""
    if mask is None or not _on_tokens(module, inputs, mask) or len(inputs) != len(mask):
        return None
    return mask[:, positions].reshape(-1)


def with_constant(rows: Tensor) -> Tensor:
    """Rows ``(rows, columns)`` with the constant 1 appended: ``(rows, columns + 1)``."""
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


def second_moments(rows: Tensor) -> Moments:
    """Moments of rows ``(rows, columns)``; the constant is appended here."""
    rows = with_constant(rows)
    return Moments((rows.T @ rows).double() / len(rows), len(rows))


def collect_moments(
    model: nn.Module, names: Iterable[str], inputs: Sequence[Tensor], seed: int = 0, batch_size: int = 128
) -> dict[str, Moments]:
    """Moments of the inputs of the named layers over the given inputs, in one pass; padding tokens do not count.

    Of a table of embeddings they are the moments of the rows that it hands out, with a tenth of those of all its rows,
    since most were not seen.

    Args:
        model: the network.
        names: convolutions (groups = 1) and linears; those with too many columns are left out.
        inputs: calibration inputs, each ``(images, ...)``.
        seed: decides which positions are sampled.
        batch_size: images a step.
    """
    modules = {model.get_submodule(name): name for name in names}
    images = len(inputs[0])
    sums: dict[str, Tensor] = {}
    rows: dict[str, int] = {}
    counts: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(seed)
    mask = token_mask(inputs)
    real_now: Tensor | None = None  # of the batch that runs

    def add(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        name = modules[module]
        if isinstance(module, nn.Embedding):
            ids = arguments[0]
            ids = ids[real_now] if real_now is not None and real_now.shape == ids.shape else ids
            counts[name] = counts.get(name, 0) + torch.bincount(ids.flatten(), minlength=len(module.weight))
            return
        positions = sample_positions(module, arguments[0], images, generator, mask)
        part = with_constant(input_rows(module, arguments[0].detach(), positions))
        real = real_rows(module, arguments[0], positions, real_now)
        part = part if real is None else part[real]
        if name not in sums:
            sums[name] = part.new_zeros(part.shape[1], part.shape[1])
        sums[name].addmm_(part.T, part)  # in single precision and in place: the matrices are large
        rows[name] = rows.get(name, 0) + len(part)

    handles = [
        module.register_forward_pre_hook(add)
        for module in modules
        if factors(module) and columns(module) <= MOST_COLUMNS
    ]
    try:
        with evaluating(model):
            for start in range(0, images, batch_size):
                real_now = None if mask is None else mask[start : start + batch_size]
                model(*[tensor[start : start + batch_size] for tensor in inputs])
    finally:
        for handle in handles:
            handle.remove()
    for name, total in sums.items():
        if not torch.isfinite(total).all():
            raise TaskError(f"the inputs of {name!r} hold NaN or Inf on calibration data; check the data and the model")
    found = {name: Moments(sums.pop(name).double().div_(rows[name]), rows[name]) for name in list(sums)}
    return found | {name: _of_table(model.get_submodule(name), seen) for name, seen in counts.items()}


def _of_table(module: nn.Module, seen: Tensor) -> Moments:
    """Moments of a table's rows, each counted as often as it was seen (rows,), with a share of all for those unseen."""
    rows = with_constant(module.get_parameter("weight").detach().double())
    share = (1 - UNSEEN) * seen.double() / seen.sum().clamp_min(1) + UNSEEN / len(rows)
    return Moments(rows.T @ (share[:, None] * rows), int(seen.sum()))


def padding_of(module: nn.Conv2d) -> tuple[int, int]:
    """Padding (height, width) in numbers, also where the module says "same" or "valid"."""
    if isinstance(module.padding, str):
        if module.padding == "valid":
            return (0, 0)
        (kh, kw), (dh, dw) = module.kernel_size, module.dilation
        return (dh * (kh - 1) // 2, dw * (kw - 1) // 2)
    return (int(module.padding[0]), int(module.padding[1]))


def _output_size(module: nn.Conv2d, inputs: Tensor, padded: bool = False) -> tuple[int, int]:
    padding = (0, 0) if padded else padding_of(module)
    sizes = zip(inputs.shape[-2:], module.kernel_size, module.stride, padding, module.dilation)
    height, width = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
    return height, width
