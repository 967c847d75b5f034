"""Carries a plan out on a network: channels removed, factors built, blocks dropped, weights re-fitted."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from coldpress.errors import PlanError
from coldpress.layer_shape import LayerShape
from coldpress.network import replace_module
from coldpress.plan import ChannelGroup, Option, Plan, Space, Unit
from coldpress.surgery.channels import Indices, Removal, remove_channels, removed_indices, without_block
from coldpress.surgery.factorize import build_factors, factor_table, factor_weights
from coldpress.surgery.factorized import Factorized
from coldpress.surgery.leastsquares import refit_columns
from coldpress.surgery.moments import Moments
from coldpress.surgery.refit import constant_weight, dense_weight, refit, set_weight
from coldpress.surgery.shared_rows import SharedRows, share_rows
from coldpress.surgery.structure import Absent, Constant, Dropped, describe_changes


def apply_plan(
    model: nn.Module,
    space: Space,
    plan: Plan,
    *,
    moments: Mapping[str, Moments] | None = None,
    calibration: Sequence[Tensor] | None = None,
    progress: Callable[[int, int], None] | None = None,
    seed: int = 0,
) -> tuple[nn.Module, Plan]:
    """A new, physically smaller network, and the plan with its structure filled in.

    Args:
        model: the original; it is not changed.
        space: the space that the plan was chosen from.
        plan: ``kept`` must name the channels, or rows, of every width or vocabulary unit that does not keep.
        moments: second moments of the original's layer inputs: the weights that remain are re-fitted to them.
        calibration: inputs for the sequential re-fit to the original, each ``(images, ...)``; None leaves it out.
        progress: told of the sequential re-fit's (layers done, layers in all).
        seed: of the positions sampled by the re-fit.

    Raises:
        PlanError: if the plan does not fit the space.
    """
    student, options = copy.deepcopy(model), space.options(plan.choices)
    removal = _removal(space, plan)
    gone = removed_indices(removal)
    configured = {site.name: shape for site, shape in space.configured(plan.choices)}
    dropped, constant = space.dropped(plan.choices), space.constant(plan.choices)
    for (name, role), lost in gone.items():
        module = student.get_submodule(name)
        if role == "in" and moments is not None and name in moments:
            weight = dense_weight(module)
            kept = torch.from_numpy(_columns(module, lost))
            new = weight.clone()
            new[:, torch.cat([kept, torch.tensor([-1])])] = refit_columns(
                weight, moments[name].matrix, kept, moments[name].damping
            )
            set_weight(module, new)
    remove_channels(student, removal)
    for branch in constant:
        set_weight(student.get_submodule(branch.last), constant_weight(model, branch.last, moments))
    for i, unit in enumerate(space.units):
        if unit.kind == "vocabulary" and options[i] is not unit.options[0]:
            share_rows(student, unit.target, _kept(plan, unit, options[i]).tolist())
    factored = {
        name: shape
        for name, shape in configured.items()
        if shape is not None and shape.method != "dense" and shape.factors_pay
    }
    for name, shape in factored.items():
        _factorize(student, name, shape, _kept_moments(model, name, moments, gone.get((name, "in"))))
    if calibration is not None:
        stay = {name: _stay(model, name, gone) for (name, role) in gone if role == "out"}
        refit(
            student,
            model,
            calibration,
            outputs=stay,
            factored=factored,
            dropped=dropped,
            constant=constant,
            seed=seed,
            progress=progress,
        )
    for branch in constant:
        bias = student.get_submodule(branch.last).get_parameter("bias").detach()
        replace_module(student, branch.end, Constant(bias, branch.results[0]))
        if branch.before:
            replace_module(student, branch.before, Dropped(branch.results[1]))
    for block, absent in dropped.items():
        replace_module(student, block, Absent() if absent else Dropped())
    return student, Plan(plan.choices, plan.kept, describe_changes(model, student))


def _removal(space: Space, plan: Plan) -> Removal:
    removal: list[tuple[ChannelGroup, Indices]] = []
    options = space.options(plan.choices)
    for i, unit in enumerate(space.units):
        if unit.kind != "width" or options[i].channels in (None, space.groups[unit.name].channels):
            continue
        group, kept = space.groups[unit.name], _kept(plan, unit, options[i])
        removal.append((without_block(group) if options[i].drop else group, kept))
    return removal


def _kept(plan: Plan, unit: Unit, option: Option) -> Indices:
    """What stays of a unit that the plan narrows, ascending."""
    what = "rows" if unit.kind == "vocabulary" else "channels"
    if unit.name not in plan.kept:
        raise PlanError(f"the plan narrows {unit.name!r} but does not say which {what} stay")
    kept = np.array(sorted(plan.kept[unit.name]), dtype=np.int64)
    if len(kept) != option.channels:
        raise PlanError(f"{unit.name!r}: the option keeps {option.channels} {what}, the plan lists {len(kept)}")
    whole = unit.options[0].channels
    if unit.kind == "vocabulary" and (len(np.unique(kept)) < len(kept) or kept[0] < 0 or kept[-1] >= (whole or 0)):
        raise PlanError(f"{unit.name!r}: the plan lists rows twice, or others than 0 to {(whole or 0) - 1}")
    return kept


def _columns(module: nn.Module, lost: Indices) -> Indices:
    """Unfolded columns that stay, when the given input channels go."""
    weight = module.get_parameter("weight")
    area = weight[0, 0].numel()
    stay = np.setdiff1d(np.arange(weight.shape[1]), lost)
    return (stay[:, None] * area + np.arange(area)).ravel()


def _stay(model: nn.Module, name: str, gone: Mapping[tuple[str, str], Indices]) -> Tensor:
    rows = len(model.get_submodule(name).get_parameter("weight"))
    return torch.from_numpy(np.setdiff1d(np.arange(rows), gone[name, "out"]))


def _kept_moments(
    model: nn.Module, name: str, moments: Mapping[str, Moments] | None, lost: Indices | None
) -> Tensor | None:
    if moments is None or name not in moments:
        return None
    matrix = moments[name].matrix
    if lost is None:
        return matrix
    kept = torch.from_numpy(np.append(_columns(model.get_submodule(name), lost), len(matrix) - 1))
    return matrix[kept][:, kept]


def _factorize(student: nn.Module, name: str, shape: LayerShape, moments: Tensor | None) -> None:
    module = student.get_submodule(name)
    if isinstance(module, SharedRows):
        name, module = f"{name}.table", module.table
    if isinstance(module, nn.Embedding):
        replace_module(student, name, _factored_table(module, shape, moments))
        return
    factors = factor_weights(dense_weight(module), moments, shape.kernel, shape.method, shape.rank)
    layers = build_factors(shape)
    layers.fill(factors)
    replace_module(student, name, layers.to(module.get_parameter("weight").device).train(module.training))


def _factored_table(module: nn.Embedding, shape: LayerShape, moments: Tensor | None) -> Factorized:
    layers = build_factors(shape).to(module.weight.device, module.weight.dtype).train(module.training)
    parameters = (*(part.get_parameter("weight") for part in layers), layers[-1].get_parameter("bias"))
    with torch.no_grad():
        for parameter, value in zip(parameters, factor_table(module.weight.detach(), moments, shape.rank[0])):
            parameter.copy_(value)
    return layers
