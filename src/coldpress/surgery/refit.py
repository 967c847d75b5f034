"""Sequential re-fit: every layer in network order, inputs from the compressed prefix, targets from the teacher.

A layer whose output goes into a residual sum is fitted to the teacher's sum less what the compressed shortcut already
brings, so that each block makes up for the errors of those before it. One pass of the network, no gradient; a layer
that is called several times is fitted to all its calls together, in a pass of its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from coldpress.layer_shape import LayerShape
from coldpress.network import token_mask, under
from coldpress.plan import Branch
from coldpress.surgery.events import NORM_TYPES, opaque_modules, record, shortcuts, watching
from coldpress.surgery.factorize import effective_weight, factor_weights
from coldpress.surgery.factorized import Factorized
from coldpress.surgery.group_moments import group_products
from coldpress.surgery.leastsquares import damping_for, solve
from coldpress.surgery.moments import (
    MOST_COLUMNS,
    Moments,
    columns,
    input_rows,
    output_rows,
    real_rows,
    unfolds,
    with_constant,
)
from coldpress.surgery.targets import ByEvent, Sums, by_event, calls_of, positions_of, stages, targets_of

logger = logging.getLogger("coldpress.surgery")


def refit(
    student: nn.Module,
    teacher: nn.Module,
    inputs: Sequence[Tensor],
    *,
    outputs: Mapping[str, Tensor],
    factored: Mapping[str, LayerShape],
    dropped: Mapping[str, bool] | None = None,
    constant: Sequence[Branch] = (),
    seed: int = 0,
    batch_size: int = 128,
    damping: float | None = None,
    grouped: Collection[str] = (),
    fitted: Callable[[str, Tensor], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Re-fit, in place, the weights of a compressed network to its teacher's activations.

    Args:
        student: the compressed network; its modules have the teacher's names.
        teacher: the original.
        inputs: calibration inputs, each ``(images, ...)``; all images run through the student at once. Padding tokens
            do not count.
        outputs: for layers that lost outputs, the teacher's output channels that stay, ``(kept,)``.
        factored: for layers that became factors, their configured shape.
        dropped: blocks that will go, and still run: they hand on their input or, where True, no channel, and their
            layers stay as they are.
        constant: sub-layers that will go, and still run: of their layers only the last one's bias is re-fitted.
        seed: decides which positions are looked at.
        batch_size: images a step in the teacher's pass.
        damping: ridge toward the given weights; by default what the number of rows calls for, +inf leaves them.
        grouped: grouped convolutions that are re-fitted too, each group by itself.
        fitted: called after each layer's re-fit with its name and the moments of its inputs in the student,
            ``(columns + 1, columns + 1)``, the constant last, one for each group of those in ``grouped``; what it
            makes of the layer is what the next ones read.
        progress: called with (layers done, layers in all).
    """
    opaque = opaque_modules(teacher)
    biases = {branch.last for branch in constant}
    layers = [name for name in opaque if name in (*grouped, *biases) or _fits(teacher.get_submodule(name))]
    idle = (*(dropped or ()), *(name for branch in constant for name in branch.modules))
    layers = [name for name in layers if name in biases or not under(name, idle)]
    norms = [name for name in opaque if isinstance(teacher.get_submodule(name), NORM_TYPES)]
    mask, examples = token_mask(inputs), inputs
    if mask is not None:  # networks may leave out what is only for padding: all runs must have some
        lengths = mask.sum(1)
        rows = torch.stack([lengths.argmin(), lengths.argmax()])
        examples, batch_size = [tensor[rows] for tensor in inputs], len(lengths)
    events = record(teacher, examples)
    calls = calls_of(layers, events)
    layers = list(calls)
    ends = shortcuts(events, layers, norms)
    positions = positions_of(teacher, layers, calls, inputs, seed)
    targets = targets_of(teacher, opaque, layers, ends, calls, positions, inputs, batch_size)
    brought: dict[int, Tensor] = {}
    sums: dict[str, Sums] = {}  # of the layers being fitted only: a layer's moments are large
    done = 0

    def fitter(name: str) -> Callable[[Tensor], None]:
        waiting = list(calls[name])

        def fit(tensor: Tensor) -> None:
            nonlocal done
            call = waiting.pop(0)
            target = targets.pop(call)
            if name in outputs:
                target = target[:, outputs[name]]
            if call in ends:
                target = target - brought.pop(call)
                if (norm := ends[call].norm) is not None:
                    target = _before_norm(student.get_submodule(norm), target)
            taken = sums.setdefault(name, Sums())
            if name in biases:
                taken.add(target.new_ones(len(target), 1), target)
            else:
                _take(taken, teacher.get_submodule(name), tensor, positions[call], mask, target)
            if waiting:
                return
            del target
            seen = sums.pop(name)
            if name in biases:
                _fit_bias(student, name, seen)
            else:
                _fit_layer(student, name, seen, factored, damping)
            if fitted is not None:
                fitted(name, seen.means()[0])
            done += 1
            if progress:
                progress(done, len(layers))

        return fit

    for stage in stages(layers, calls):
        wanted = by_event(stage, calls, lambda call: ends[call].other if call in ends else None)

        def watch(number: int, _: str, sources: Sequence[Tensor], output: Tensor, wanted: ByEvent = wanted) -> None:
            for layer, call in wanted.get(number, ()):
                module = teacher.get_submodule(layer)
                shared = output_rows(module, output, positions[call])
                real = real_rows(module, output, positions[call], mask)
                brought[call] = shared if real is None else shared[real]

        before = {name: fitter(name) for name in stage}
        with watching(student, opaque, watch, before, dropped) as run:
            run(*inputs)


def _take(
    sums: Sums, original: nn.Module, tensor: Tensor, positions: Tensor, mask: Tensor | None, target: Tensor
) -> None:
    """Add a call's rows, unfolded as the original layer does: a factorised one still covers the same window."""
    if isinstance(original, nn.Conv2d) and original.groups > 1:
        sums.add_sums(*group_products(original, tensor, positions, target), len(target))
        return
    rows = with_constant(input_rows(original, tensor, positions))
    real = real_rows(original, tensor, positions, mask)
    sums.add(rows if real is None else rows[real], target)


def _fits(module: nn.Module) -> bool:
    return unfolds(module) and columns(module) <= MOST_COLUMNS


def _before_norm(norm: nn.Module, target: Tensor) -> Tensor:
    """Pre-images of a BatchNorm's outputs; channels that it silences get their running mean."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = torch.rsqrt(variance + float(norm.eps))  # type: ignore[arg-type]
    shift = torch.zeros_like(mean)
    if norm.weight is not None:
        scale, shift = scale * norm.get_parameter("weight"), norm.get_parameter("bias")
    silent = scale.abs() < 1e-4
    safe = torch.where(silent, torch.ones_like(scale), scale)
    return torch.where(silent, mean, (target - shift) / safe + mean)


def _fit_layer(
    student: nn.Module,
    name: str,
    seen: Sums,
    factored: Mapping[str, LayerShape],
    damping: float | None,
) -> None:
    module = student.get_submodule(name)
    moments, cross = seen.means()
    if damping == math.inf:
        return
    if damping is None:
        damping = damping_for(moments.shape[-1], seen.rows)
    if not (torch.isfinite(moments).all() and torch.isfinite(cross).all()):
        logger.warning("activations at %r are not finite: it is not re-fitted", name)
        return
    if isinstance(module, Factorized):
        shape = factored[name]
        bias = module.biased.get_parameter("bias").detach().double()
        prior = effective_weight([*module.weights(), bias], shape.method)
        dense = solve(cross, moments, prior, damping)
        module.fill(factor_weights(dense, moments, shape.kernel, shape.method, shape.rank))
        return
    prior = dense_weight(module)
    if moments.dim() == 3:
        each = zip(cross, moments, prior.chunk(len(moments)))
        set_weight(module, torch.cat([solve(*own, damping) for own in each]))
        return
    set_weight(module, solve(cross, moments, prior, damping))


def _fit_bias(student: nn.Module, name: str, seen: Sums) -> None:
    module, (count, total) = student.get_submodule(name), seen.means()
    if torch.isfinite(total).all():
        set_weight(module, torch.cat([dense_weight(module)[:, :-1], total / count], dim=1))


def constant_weight(model: nn.Module, name: str, moments: Mapping[str, Moments] | None) -> Tensor:
    """The weight and bias ``(outputs, columns + 1)``, float64, of a layer that gives its mean output alone.

    Without moments it gives its bias.
    """
    weight = dense_weight(model.get_submodule(name))
    known = moments.get(name) if moments is not None else None
    mean = weight[:, -1] if known is None else weight @ known.matrix[:, -1] / known.matrix[-1, -1]
    return torch.cat([torch.zeros_like(weight[:, :-1]), mean[:, None]], dim=1)


def dense_weight(module: nn.Module) -> Tensor:
    """A layer's weight and bias as ``(outputs, columns + 1)``, float64."""
    weight = module.get_parameter("weight").detach().double().flatten(1)
    bias = module.bias.detach().double() if isinstance(module.bias, Tensor) else weight.new_zeros(len(weight))
    return torch.cat([weight, bias[:, None]], dim=1)


def set_weight(module: nn.Module, weight: Tensor) -> None:
    """Give a layer the weight and bias of ``(outputs, columns + 1)``; a bias is made where there was none."""
    old = module.get_parameter("weight")
    dtype, device = old.dtype, old.device
    module.weight = nn.Parameter(weight[:, :-1].reshape(len(weight), *old.shape[1:]).to(device, dtype))
    module.bias = nn.Parameter(weight[:, -1].to(device, dtype))
