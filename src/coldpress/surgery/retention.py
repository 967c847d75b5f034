"""Pruning by softmax retention: what QIANets calls QAOA-inspired, with its threshold calibrated to the sparsity.

A weight w of a layer stays with probability P = softmax(|W|), that is, it stays if P reaches a threshold lambda; the
entanglement takes neighbours in the tensor along. Source: QIANets (Balapanov et al. 2024, arXiv:2410.10318), section 3.
Nothing here is quantum, and neither data nor a problem is needed: tensors in, masks out, so this is surgery, and what
trains with masks or reproduces the paper stands above it. `coldpress.energy.qaoa_channels` runs a QAOA circuit indeed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from coldpress.errors import SurgeryError
from coldpress.network import LAYER_TYPES
from coldpress.plan import ChannelGroup


@dataclass(frozen=True)
class Retained:
    """What pruning left.

    Attributes:
        masks: by module, bool in the shape of its weight, True where a weight stays.
        units: weights, or atoms of channels, that could go.
        gone: how many went.
        thresholds: by layer or group, the logarithm of lambda at each stage that took something.
        kept: by group, the channels that stay; empty where single weights went.
    """

    masks: Mapping[str, Tensor]
    units: int
    gone: int
    thresholds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    kept: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def sparsity(self) -> float:
        """The share of units that went."""
        return self.gone / self.units


def prune_weights(
    model: nn.Module,
    sparsity: float | Mapping[str, float],
    *,
    entanglement: float = 0.0,
    stages: int = 1,
    seed: int = 0,
) -> Retained:
    """Masks of single weights: the least likely to stay go, and some of their neighbours with them.

    Every layer loses its sparsity, to a weight: the threshold counts what entanglement takes. Without entanglement this
    is pruning by magnitude, whatever the stages, since softmax keeps the order; ties are cut at random.

    Args:
        model: the network; it is not changed.
        sparsity: share of weights that go, in [0, 1]; of every convolution and linear, or of those named.
        entanglement: probability that a weight below the threshold takes a neighbour along: the next weight on either
            side along each axis of the tensor. What goes so takes no further ones along within the stage.
        stages: the sparsity is reached in so many equal steps; each computes P anew over what is left.
        seed: of the entanglement and the ties.

    Raises:
        SurgeryError: an argument out of range, a name that is no layer, or a weight that is NaN or infinite.

    Example:
        >>> net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
        >>> found = prune_weights(net, 0.4, entanglement=0.5)
        >>> found.sparsity, int(found.masks["0"].sum())
        (0.4, 360)
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LAYER_TYPES)}
    shares = shares_by_name(sparsity, layers, "Conv2d or Linear")
    weights = {name: _importance(name, layers[name]) for name in shares}
    counts = wanted_counts({name: weights[name].numel() for name in shares}, shares)
    generator = _generator(entanglement, stages, seed)
    masks, thresholds = {}, {}
    for name, importance in weights.items():
        masks[name], thresholds[name] = _pruned(importance, counts[name], entanglement, stages, generator)
    units = sum(importance.numel() for importance in weights.values())
    return Retained(masks, units, sum(counts.values()), thresholds)


def prune_channels(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    sparsity: float | Mapping[str, float],
    *,
    importance: Mapping[str, Tensor] | None = None,
    entanglement: float = 0.0,
    stages: int = 1,
    seed: int = 0,
) -> Retained:
    """Masks of whole channels: as `prune_weights`, with the mean |w| of a channel's filters as importance.

    A channel's neighbours are the ones next to it. Masked are its filters and wherever it is read, so that the masked
    network computes what it would without the channel.

    Args:
        model: the network; it is not changed.
        groups: whose channels can go, in whole atoms.
        sparsity: share of each group's atoms that go, in [0, 1]; of all groups, or by name.
        importance: of each atom by group, ``(atoms,)``, in place of the mean |w|; groups left out have that.
        entanglement, stages, seed: as of `prune_weights`.

    Raises:
        SurgeryError: as of `prune_weights`.
    """
    named = {group.name: group for group in groups}
    shares = shares_by_name(sparsity, named, "channel group")
    sizes = {name: named[name].channels // named[name].atom for name in shares}
    for name, scores in (importance or {}).items():
        if name not in sizes or scores.shape != (sizes[name],) or not bool(scores.isfinite().all()):
            raise SurgeryError(
                f"the importance of {name!r} must be finite, one for each atom of a group that is pruned"
            )
    counts = wanted_counts(sizes, shares)
    generator = _generator(entanglement, stages, seed)
    kept, thresholds = {}, {}
    for name in shares:
        given = (importance or {}).get(name)
        scores = atom_importance(model, named[name]) if given is None else given.double()
        stay, thresholds[name] = _pruned(scores, counts[name], entanglement, stages, generator)
        kept[name] = tuple(stay.repeat_interleave(named[name].atom).nonzero().ravel().tolist())
    masks = channel_masks(model, [named[name] for name in shares], kept)
    return Retained(masks, sum(sizes.values()), sum(counts.values()), thresholds, kept)


def log_retention(importance: Tensor) -> Tensor:
    """log softmax of importances, in float64: in a large layer single precision gives most weights the same P."""
    values = importance.double()
    return values - values.flatten().logsumexp(0)


def atom_importance(model: nn.Module, group: ChannelGroup) -> Tensor:
    """Mean |w| of the filters of each atom of a group, ``(atoms,)`` float64.

    Raises:
        SurgeryError: the group has no layer that produces its channels, or a weight is NaN or infinite.
    """
    sums, rows = torch.zeros(group.channels, dtype=torch.float64), 0
    for member in (*group.of_role("out"), *group.of_role("channel")):
        module = model.get_submodule(member.module)
        if isinstance(module, LAYER_TYPES):
            means = _importance(member.module, module).flatten(1).double().mean(dim=1)
            sums += means[torch.from_numpy(member.index)].sum(dim=1)
            rows += member.index.shape[1]
    if rows == 0:
        raise SurgeryError(f"no convolution or linear produces the channels of {group.name!r}; leave the group out")
    return (sums / rows).reshape(-1, group.atom).mean(dim=1)


def channel_masks(
    model: nn.Module, groups: Iterable[ChannelGroup], kept: Mapping[str, Sequence[int]]
) -> dict[str, Tensor]:
    """Masks of weights, by module, for channels that go: their filters, and the columns that read them.

    Args:
        model: the network.
        groups: those named in ``kept``, at least.
        kept: group name to the channels that stay.
    """
    masks: dict[str, Tensor] = {}
    for group in groups:
        lost = torch.ones(group.channels, dtype=torch.bool)
        lost[list(kept[group.name])] = False
        for member in group.members:
            module = model.get_submodule(member.module)
            if isinstance(module, LAYER_TYPES):
                shape = module.get_parameter("weight").shape
                mask = masks.setdefault(member.module, torch.ones(shape, dtype=torch.bool))
                mask.transpose(0, int(member.role == "in"))[torch.from_numpy(member.index)[lost].ravel()] = False
    return masks


def _pruned(
    importance: Tensor, count: int, entanglement: float, stages: int, generator: torch.Generator
) -> tuple[Tensor, tuple[float, ...]]:
    """What stays, bool, when ``count`` go, and log lambda at each stage."""
    stay = torch.ones_like(importance, dtype=torch.bool)
    thresholds, before = [], 0
    for stage in range(1, stages + 1):
        after = count * stage // stages
        if after > before:
            left = importance.masked_fill(~stay, math.inf)
            gone, level = _least_likely(left, after - before, entanglement, generator)
            thresholds.append(level - float(importance[stay].double().logsumexp(0)))
            stay &= ~gone
            before = after
    return stay, tuple(thresholds)


def _least_likely(
    importance: Tensor, count: int, entanglement: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    """The ``count`` that go, bool, and the importance at the threshold.

    P rises with the importance, so the threshold is found among importances, where nothing underflows. A weight goes
    once the threshold passes the least importance among its own and those of the neighbours that take it along: that
    is its level, and the levels' order gives the threshold of any count.

    Args:
        importance: +inf where nothing is left.
    """
    level = importance
    for axis in range(importance.dim()) if entanglement > 0 else ():
        size = importance.shape[axis]
        if size > 1:
            low, high = importance.narrow(axis, 0, size - 1), importance.narrow(axis, 1, size - 1)
            level = level.clone() if level is importance else level
            _take_along(level.narrow(axis, 1, size - 1), low, entanglement, generator)
            _take_along(level.narrow(axis, 0, size - 1), high, entanglement, generator)
    level = level.masked_fill(importance.isinf(), math.inf) if level is not importance else level
    border = torch.kthvalue(level.flatten(), count).values
    gone = level < border
    tied = (level == border).flatten().nonzero().ravel()
    tied = tied[torch.randperm(len(tied), generator=generator)]
    # those at the threshold by their own importance come before those that they take along
    tied = tied[(importance.flatten()[tied] != border).to(torch.uint8).argsort(stable=True)]
    gone.view(-1)[tied[: count - int(gone.sum())]] = True
    return gone, float(border)


def _take_along(level: Tensor, source: Tensor, entanglement: float, generator: torch.Generator) -> None:
    """Lower levels, in place, to those of the neighbours ``source`` where the draw says so."""
    drawn = torch.rand(source.shape, generator=generator) < entanglement
    torch.minimum(level, torch.where(drawn, source, math.inf), out=level)


def _importance(name: str, module: nn.Module) -> Tensor:
    weight = module.get_parameter("weight").detach().cpu()
    weight = weight if weight.dtype is torch.float64 else weight.float()
    if not bool(weight.isfinite().all()):
        raise SurgeryError(f"the weight of {name!r} holds NaN or Inf; look at the model, or at its training")
    return weight.abs()


def shares_by_name(sparsity: float | Mapping[str, float], known: Mapping[str, object], kind: str) -> dict[str, float]:
    """The sparsity of every layer or group by name; raises SurgeryError for one that is unknown or out of range."""
    shares = dict(sparsity) if isinstance(sparsity, Mapping) else dict.fromkeys(known, sparsity)
    if not shares:
        raise SurgeryError(f"there is nothing to prune: no {kind} was found or named")
    for name, share in shares.items():
        if name not in known:
            raise SurgeryError(f"{name!r} is no {kind} of this network; there are {', '.join(known) or 'none'}")
        if not 0.0 <= share <= 1.0:
            raise SurgeryError(f"sparsity is {share!r} for {name!r}; it must be in [0, 1], the share that goes")
    return shares


def wanted_counts(sizes: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """How many go of each; what rounding leaves is carried to the next, so that the total is met too."""
    counts, wanted, given = {}, 0.0, 0
    for name, size in sizes.items():
        wanted += shares[name] * size
        counts[name] = min(max(math.floor(wanted + 0.5 - given + 1e-9), 0), size)
        given += counts[name]
    return counts


def _generator(entanglement: float, stages: int, seed: int) -> torch.Generator:
    """The source of randomness; raises SurgeryError for arguments out of range."""
    if not 0.0 <= entanglement <= 1.0:
        raise SurgeryError(f"entanglement is {entanglement!r}; it is a probability and must be in [0, 1]")
    if stages < 1:
        raise SurgeryError(f"stages is {stages!r}; it must be 1 or more")
    return torch.Generator().manual_seed(seed)
