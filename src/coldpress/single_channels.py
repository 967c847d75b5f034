"""Channels, heads and neurons chosen one by one, by their Fisher energy and inside a budget.

How far the couplings between channels are to be believed is measured: the plan of least loss is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coldpress.atoms import Atoms, choose_atoms
from coldpress.cost.latency import seconds_of
from coldpress.cost.widths import WidthCost
from coldpress.energy.correlation import measure_plans
from coldpress.energy.fisher import fisher_energy, mask_gradients
from coldpress.errors import TaskError
from coldpress.evidence import Progress, calibration_parts
from coldpress.plan import ChannelGroup, Space
from coldpress.pricing import Prices
from coldpress.recipe import Recipe
from coldpress.selection import Ints
from coldpress.solvers.select import Selected
from coldpress.space.widths import width_step, with_widths
from coldpress.surgery.effects import Effects
from coldpress.surgery.moments import Moments
from coldpress.task import Task

logger = logging.getLogger("coldpress.planning")

RANK = 256
ALPHAS = (0.0, 0.5, 1.0)


@dataclass(frozen=True)
class Channels:
    """Which channels stay, and how that was found.

    Attributes:
        kept: width unit name to the channels that stay, of units that lose some.
        facts: ``alpha``, ``losses`` (measured KL in nats by alpha), and of the last problem ``energy``, ``bound``,
            ``gap``, ``seconds``; ``units``: how many could go one by one.
    """

    kept: Mapping[str, tuple[int, ...]]
    facts: Mapping[str, Any]


def choose_channels(
    task: Task,
    space: Space,
    prices: Prices,
    limits: Mapping[str, float],
    moments: Mapping[str, Moments],
    recipe: Recipe,
    progress: Progress | None = None,
) -> Channels:
    """The channels that stay within limits, of the least Fisher energy.

    Args:
        task: the model and its data.
        space: of widths alone.
        prices: what layers cost.
        limits: quantity to its absolute limit. Under one on latency widths are whole steps of those offered.
        moments: of the layers' inputs: the losses that decide are measured with the weights re-fitted.
        recipe: calibration, time limit (of each choice), seed.
        progress: called with (step, done, in all).

    Raises:
        BudgetError: no widths meet the limits.
    """
    atoms = Atoms.of(space)
    groups = [space.groups[name] for name in atoms.names]
    first, judges = calibration_parts(task, recipe)
    gradients = mask_gradients(task.model, first, groups, seed=recipe.seed).numpy()
    by_atom = np.add.reduceat(gradients, _starts(groups), axis=1).astype(np.float64)
    costs = _costs(space, prices, limits)
    steps = _steps(groups) if "latency" in limits else np.ones(len(groups), np.int64)
    found: dict[float, tuple[float, dict[str, tuple[int, ...]], Selected]] = {}
    for done, alpha in enumerate(ALPHAS):
        energy = fisher_energy(by_atom, RANK, alpha)
        answer = choose_atoms(atoms, energy, costs, limits, steps, seed=recipe.seed, time_limit=recipe.time_limit)
        kept = atoms.kept(answer.chosen)
        found[alpha] = (_loss(task, space, moments, kept, judges), kept, answer)
        if progress:
            progress("single channels", done + 1, len(ALPHAS))
    alpha = min(found, key=lambda known: found[known][0])
    _, kept, answer = found[alpha]
    losses = {str(known): loss for known, (loss, _, _) in found.items()}
    logger.info("single channels: measured loss by alpha: %s", losses)
    facts = {"alpha": alpha, "losses": losses, "units": len(atoms.groups), "energy": answer.energy}
    facts |= {"bound": answer.lower_bound, "gap": answer.gap, "seconds": answer.seconds}
    return Channels(kept, facts)


def with_channels(space: Space, effects: Effects, kept: Mapping[str, Sequence[int]]) -> tuple[Space, Effects]:
    """A space that offers the widths of ``kept``, and effects by which just those channels stay there.

    It offers no others (half where nothing goes), for nothing else is planned there, and each costs measurements.
    """
    narrowed = with_widths(space, {name: len(channels) for name, channels in kept.items()})
    renewed = Effects(effects.model, narrowed, effects.moments, effects.remember, effects.batch)
    renewed.orders.update(effects.orders)
    for unit in space.units:
        if unit.kind == "width":
            order, stay = effects.order(unit.name), set(kept.get(unit.name, ()))
            renewed.orders[unit.name] = [c for c in order if c not in stay] + [c for c in order if c in stay]
    return narrowed, renewed


def labels_of(space: Space, kept: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """The choices that keep so many channels, unit name to label."""
    return {
        name: next(option.label for option in space.unit(name).options if option.channels == len(channels))
        for name, channels in kept.items()
    }


def _starts(groups: Sequence[ChannelGroup]) -> Ints:
    """The first channel of every atom, over all groups."""
    found, before = [], 0
    for group in groups:
        found.append(before + np.arange(0, group.channels, group.atom))
        before += group.channels
    return np.concatenate(found).astype(np.int64)


def _steps(groups: Sequence[ChannelGroup]) -> Ints:
    """Atoms in one step of widths that run fast, ``(groups,)``."""
    return np.array([max(width_step(group.channels, group.atom) // group.atom, 1) for group in groups], dtype=np.int64)


def _costs(space: Space, prices: Prices, limits: Mapping[str, float]) -> dict[str, WidthCost]:
    """The limited quantities at any widths."""
    scale, overhead = prices.calibration
    found: dict[str, WidthCost] = {}
    if "size" in limits:
        found["size"] = WidthCost(space, lambda shape: shape.bytes, prices.extra_bytes)
    if "macs" in limits:
        found["macs"] = WidthCost(space, lambda shape: shape.macs, prices.extra_macs)
    if "latency" in limits and (table := prices.table) is not None:
        found["latency"] = WidthCost(space, lambda shape: scale * seconds_of(table, shape), overhead)
    if set(found) != set(limits):
        raise TaskError(f"limits are on {', '.join(limits)}; costs are known of {', '.join(found) or 'nothing'}")
    return found


def _loss(task: Task, space: Space, moments: Mapping[str, Moments], kept: Mapping[str, Any], judges: Any) -> float:
    """KL (nats) of the network that keeps these channels, its consumers re-fitted."""
    plain = Effects(task.model, space, moments)
    plain.orders.update({name: list(range(group.channels)) for name, group in space.groups.items()})
    narrowed, effects = with_channels(space, plain, kept)
    return next(iter(measure_plans(task.model, effects, [labels_of(narrowed, kept)], judges)))
