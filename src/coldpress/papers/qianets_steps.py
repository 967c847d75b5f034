"""What QIANets does to a network, as its public code does it and corrected.

Balapanov et al. 2024, "QIANets: Quantum-Integrated Adaptive Networks for Reduced Latency and Improved Inference Times
in CNN Models", arXiv:2410.10318. In the public code softmax only sizes a random mask, entanglement goes on from what it
took, and both decompositions are multiplied back to dense weights: the file and the time stay as they were.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from coldpress.cost.table import LatencyTable
from coldpress.errors import SurgeryError
from coldpress.network import LAYER_TYPES, replace_module, under
from coldpress.recovery import held, recalibrate
from coldpress.space import channel_groups
from coldpress.space.layers import layer_shapes
from coldpress.space.rank_rules import Rule, ruled_rank
from coldpress.surgery.channels import remove_channels
from coldpress.surgery.dead import extend_masks, remove_dead_channels
from coldpress.surgery.eca import insert_eca
from coldpress.surgery.factorize import build_factors, factor_weights
from coldpress.surgery.moments import collect_moments, factors
from coldpress.surgery.refit import dense_weight
from coldpress.surgery.retention import prune_channels, prune_weights

logger = logging.getLogger("coldpress.papers")

BLOCKS = ("BasicBlock", "Bottleneck", "Inception", "_DenseBlock")
"""Types of blocks of torchvision's networks that attention is put behind."""
LBFGS_STEPS = 5
NAMED = 8
"""Layers that a warning names."""


def as_published(
    model: nn.Module,
    sparsity: float,
    rank: int,
    entanglement: float = 0.1,
    *,
    ignored: Sequence[str] = (),
    seed: int = 0,
) -> nn.Module:
    """A copy after the public code's steps: a random mask, its entanglement, truncated SVD, and a factorisation.

    Every convolution and linear goes through all of them, and is dense again afterwards.

    Args:
        model: the network.
        sparsity: of the random mask before entanglement, in [0, 1].
        rank: of both decompositions; at least 1, cut to the layer's full rank.
        entanglement: probability with which each neighbour goes along, once along every axis.
        ignored: names of layers, or of modules that hold them, that stay as they are.
        seed: of the mask and the factorisation's start.

    Raises:
        SurgeryError: an argument is out of range, or the network has no convolution or linear layer.
    """
    check_amounts(sparsity, rank, entanglement)
    student, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    layers = {
        name: module
        for name, module in student.named_modules()
        if isinstance(module, LAYER_TYPES) and not under(name, ignored)
    }
    if not layers:
        raise SurgeryError("this network has no convolution or linear layer: there is nothing to prune")
    full = {name: min(module.get_parameter("weight").flatten(1).shape) for name, module in layers.items()}
    _warn_above_full(full, rank, "cut to it")
    for module in layers.values():
        weight = module.get_parameter("weight")
        value = weight.detach().cpu().float().clone()
        value[_random_mask(value.shape, sparsity, entanglement, generator)] = 0.0
        matrix = value.flatten(1)
        least = min(rank, *matrix.shape)
        u, s, v = torch.linalg.svd(matrix, full_matrices=False)
        matrix = _factorised((u[:, :least] * s[:least]) @ v[:least], least, generator)
        with torch.no_grad():
            weight.copy_(matrix.reshape(weight.shape))
    return student


def corrected(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    sparsity: float,
    rank: int | Rule | None,
    *,
    kernel: int | None = None,
    attention: bool = True,
    importance: Mapping[str, Tensor] | None = None,
    entanglement: float = 0.1,
    stages: int = 3,
    ignored: Sequence[str] = (),
    table: LatencyTable | None = None,
    seed: int = 0,
) -> nn.Module:
    """A copy after the same steps as they could have been: channels go for good, factors stay two layers.

    Channels go by softmax retention, exactly as many as asked for. A convolution or linear that is smaller as a product
    of this rank, and faster by the table where one is given, becomes two layers, best for its inputs. Attention stands
    behind the blocks; BatchNorms are calibrated again.

    Args:
        model: the network.
        example_inputs: its inputs, each ``(batch, ...)``.
        inputs: calibration inputs, each ``(images, ...)``.
        sparsity: share of every group's channels that goes, in [0, 1]; one stays always.
        rank: of the factors, at least 1, or a rule that tells each layer's; None factorises nothing.
        kernel: of the attention, odd; None: by the paper's rule.
        attention: whether there is any.
        importance, entanglement, stages, seed: as of `coldpress.surgery.retention.prune_channels`.
        ignored: names of layers, or of modules that hold them, that stay as they are.
        table: of measured times.

    Raises:
        SurgeryError: an argument is out of range.
    """
    check_amounts(sparsity, rank, entanglement)
    student = copy.deepcopy(model).eval()
    groups = list(channel_groups(student, example_inputs, ignored)[0].values())
    if sparsity > 0.0 and not groups:
        logger.warning("nothing is pruned: this network has no channels that can go")
    if groups and sparsity > 0.0:
        atoms = {group.name: group.channels // group.atom for group in groups}
        shares = {name: min(sparsity, 1.0 - 1.0 / count) for name, count in atoms.items()}
        if sparsity > max(shares.values()):
            logger.warning("sparsity %.3g is more than can go: every group keeps at least one channel", sparsity)
        found = prune_channels(
            student, groups, shares, importance=importance, entanglement=entanglement, stages=stages, seed=seed
        )
        kept = [torch.tensor(found.kept[group.name] or range(group.atom)) for group in groups]  # rounding may take all
        remove_channels(student, [(group, stay.numpy()) for group, stay in zip(groups, kept)])
    if rank is not None:
        factorise(student, example_inputs, inputs, rank, table, ignored)
    if attention:
        insert_eca(student, attended_blocks(student, ignored), example_inputs, kernel)
    recalibrate(student, tuple(inputs))
    return student


def zeroed(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    sparsity: float,
    *,
    kernel: int | None = None,
    attention: bool = True,
    entanglement: float = 0.1,
    stages: int = 3,
    ignored: Sequence[str] = (),
    seed: int = 0,
) -> nn.Module:
    """A copy of which single weights are zero, by softmax retention: size and time stay as they were.

    Only channels that this leaves without effect go. Attention and BatchNorms are as of `corrected`.

    Args:
        model, example_inputs, inputs, kernel, attention, entanglement, stages, ignored, seed: as of `corrected`.
        sparsity: share of every layer's weights that are zero, in [0, 1].

    Raises:
        SurgeryError: an argument is out of range, or there is no convolution and no linear layer.
    """
    check_amounts(sparsity, None, entanglement)
    student = copy.deepcopy(model).eval()
    modules = student.named_modules()
    names = [name for name, module in modules if isinstance(module, LAYER_TYPES) and not under(name, ignored)]
    shares = dict.fromkeys(names, sparsity)
    masks = prune_weights(student, shares, entanglement=entanglement, stages=stages, seed=seed).masks
    groups = list(channel_groups(student, example_inputs, ignored)[0].values())
    with held(student, extend_masks(student, groups, masks)):
        pass  # what it leaves behind are the zeros
    remove_dead_channels(student, groups, example_inputs)
    if attention:
        insert_eca(student, attended_blocks(student, ignored), example_inputs, kernel)
    recalibrate(student, tuple(inputs))
    return student


def factorise(
    model: nn.Module,
    example_inputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    rank: int | Rule,
    table: LatencyTable | None = None,
    ignored: Sequence[str] = (),
) -> list[str]:
    """Put two layers in place of each layer that gains by it, in place; their names.

    Args:
        model, example_inputs, inputs, rank, table, ignored: as of `corrected`.
    """
    wanted, full = {}, {}
    for name, shape in layer_shapes(model, example_inputs).items():
        module = model.get_submodule(name)
        if shape.kind == "embedding" or shape.groups > 1 or under(name, ignored) or not factors(module):
            continue
        ranks = (rank,) if isinstance(rank, int) else ruled_rank(shape, module.get_parameter("weight"), "svd", rank)
        factored = replace(shape, method="svd", rank=ranks)
        (full[name],) = factored.full_rank
        if factored.factors_pay:
            wanted[name] = factored
    if isinstance(rank, int):
        _warn_above_full(full, rank, "left whole")
    if table is not None and wanted:
        dense = {name: replace(shape, method="dense", rank=()) for name, shape in wanted.items()}
        table.measure([*wanted.values(), *dense.values()])
        wanted = {n: shape for n, shape in wanted.items() if table.seconds(shape) < table.seconds(dense[n])}
    if not wanted:
        words = "smaller and faster" if table is not None else "smaller"
        told = f"rank {rank}" if isinstance(rank, int) else "the ranks that the rule tells"
        logger.warning("nothing is factorised: no layer is %s with factors of %s", words, told)
    moments = collect_moments(model, wanted, inputs)
    for name, shape in wanted.items():
        module = model.get_submodule(name)
        layers = build_factors(replace(shape, bias=True))
        own = moments[name].matrix if name in moments else None
        layers.fill(factor_weights(dense_weight(module), own, shape.kernel, "svd", shape.rank))
        weight = module.get_parameter("weight")
        replace_module(model, name, layers.to(weight.device, weight.dtype).train(module.training))
    return list(wanted)


def attended_blocks(model: nn.Module, ignored: Sequence[str] = ()) -> list[str]:
    """Names of the blocks that attention is put behind; empty where the network has none of the known types."""
    blocks = [name for name, module in model.named_modules() if type(module).__name__ in BLOCKS]
    found = [name for name in blocks if not under(name, ignored) and not any(under(own, [name]) for own in ignored)]
    if not found:
        logger.warning("no attention is inserted: none of this network's modules is a %s", ", ".join(BLOCKS))
    return found


def check_amounts(sparsity: float, rank: int | Rule | None, entanglement: float) -> None:
    """Raise SurgeryError for amounts that are out of range."""
    if not 0.0 <= sparsity <= 1.0:
        raise SurgeryError(f"sparsity is {sparsity!r}; it must be in [0, 1], the share that goes")
    if isinstance(rank, int) and rank < 1:
        raise SurgeryError(f"rank is {rank!r}; it must be 1 or more")
    if not 0.0 <= entanglement <= 1.0:
        raise SurgeryError(f"entanglement is {entanglement!r}; it is a probability and must be in [0, 1]")


def _warn_above_full(full: Mapping[str, int], rank: int, outcome: str) -> None:
    """Say which layers have a lower full rank than was asked for, and what becomes of them."""
    lower = [f"{name} ({most})" for name, most in full.items() if most < rank]
    if lower:
        more = f" and {len(lower) - NAMED} more" if len(lower) > NAMED else ""
        shown = ", ".join(lower[:NAMED])
        logger.warning("rank %d is above the full rank of %s%s: %s", rank, shown, more, outcome)


def _random_mask(shape: torch.Size, sparsity: float, entanglement: float, generator: torch.Generator) -> Tensor:
    """True where a weight goes: so many at random, then neighbours axis after axis, each from all that went before."""
    count = int(shape.numel())
    gone = torch.zeros(count, dtype=torch.bool)
    gone[torch.randperm(count, generator=generator)[: round(sparsity * count)]] = True
    gone = gone.view(shape)
    for axis in range(len(shape)):
        for step in (1, -1):
            beside = gone.roll(step, axis)
            beside.select(axis, 0 if step == 1 else -1).fill_(False)
            gone = gone | (beside & (torch.rand(shape, generator=generator) < entanglement))
    return gone


def _factorised(matrix: Tensor, rank: int, generator: torch.Generator) -> Tensor:
    """The product of two factors from a random start, by a few steps of LBFGS of falling length."""
    rows, columns = matrix.shape
    left = torch.randn(rows, rank, generator=generator).mul_(0.01).requires_grad_()
    right = torch.randn(rank, columns, generator=generator).mul_(0.01).requires_grad_()
    for step in range(LBFGS_STEPS):
        optimizer = torch.optim.LBFGS([left, right], lr=0.1 * 0.5**step, max_iter=2)

        def closure(optimizer: torch.optim.LBFGS = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = (matrix - left @ right).square().sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return (left @ right).detach()
