"""How well an energy predicts the measured loss: rank correlation over random plans, and the best shrinkage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from torch import Tensor, nn

from coldpress.energy.curvature import Replacing, Sensitivities
from coldpress.energy.suffix import Suffix
from coldpress.network import divergence, under
from coldpress.plan import Space
from coldpress.problem import Energy

ALPHAS = tuple(float(a) for a in np.linspace(0.0, 1.0, 11))


@dataclass(frozen=True)
class Correlation:
    """Predicted against measured KL (nats) of random plans.

    Attributes:
        plans: the plans' choices.
        predicted: energy at the fitted alpha.
        separable: energy at alpha 0.
        measured: KL before the sequential re-fit.
        spearman, spearman_separable: rank correlations with ``measured``.
        alpha: the shrinkage of cross-unit terms that fits the logarithm of the measured loss best.
    """

    plans: tuple[Mapping[str, str], ...]
    predicted: tuple[float, ...]
    separable: tuple[float, ...]
    measured: tuple[float, ...]
    spearman: float
    spearman_separable: float
    alpha: float


def random_plans(space: Space, count: int, seed: int = 0, most: float = 0.6) -> list[dict[str, str]]:
    """Random plans of all strengths: each unit's option is binomial about the plan's own intensity.

    Whether a part is dropped is drawn apart from its width, as for other blocks. A unit inside of what the plan drops
    keeps.

    Args:
        space: the space.
        count: how many plans.
        seed: of the draw.
        most: the strongest intensity, as a fraction of each unit's list of options.
    """
    generator = np.random.default_rng(seed)
    plans: list[dict[str, str]] = []
    for intensity in np.linspace(0.05, most, count):
        choices: dict[str, str] = {}
        for unit in space.units:
            offered = [option for option in unit.options if unit.kind == "depth" or not option.drop]
            strength = intensity * (0.3 if unit.kind in ("depth", "rank") else 1.0)
            option = offered[int(generator.binomial(len(offered) - 1, strength))]
            if len(offered) < len(unit.options) and generator.random() < 0.3 * intensity:
                option = unit.options[-1]
            if option is not unit.options[0]:
                choices[unit.name] = option.label
        plans.append(without_dead_choices(space, choices))
    return plans


def without_dead_choices(space: Space, choices: Mapping[str, str]) -> dict[str, str]:
    """The choices less those that only concern layers of dropped blocks or sub-layers."""
    gone, options = space.gone(choices), space.options(choices)
    dead = {unit.name for i, unit in enumerate(space.units) if not options[i].drop and under(unit.target, gone)}
    dead |= {name for name, branch in space.branches.items() if under(branch.last, space.dropped(choices))}
    return {name: label for name, label in choices.items() if name not in dead}


def measure_plans(
    model: nn.Module, effects: Replacing, plans: Sequence[Mapping[str, str]], inputs: Sequence[Tensor]
) -> Iterator[float]:
    """The KL divergence (nats) of each plan from the original, before the sequential re-fit."""
    with Suffix(model, inputs) as suffix:
        for choices in plans:
            yield divergence(suffix.logits, suffix.run(effects.replacements(choices)))


def correlate(
    model: nn.Module,
    space: Space,
    effects: Replacing,
    found: Sensitivities,
    inputs: Sequence[Tensor],
    *,
    count: int = 24,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Correlation:
    """Measure random plans, fit alpha to them, and report the rank correlations.

    Args:
        model: the original network.
        space: its space.
        effects: its effects.
        found: the options' sensitivities.
        inputs: calibration inputs; others than those of ``found`` make it a fair test.
        count: number of random plans.
        seed: of the plans.
        progress: called with (plans done, plans in all).
    """
    plans = random_plans(space, count, seed)
    measured = []
    for value in measure_plans(model, effects, plans, inputs):
        measured.append(value)
        if progress:
            progress(len(measured), count)
    energies = {alpha: found.energy(space, alpha) for alpha in ALPHAS}
    values = {alpha: [energy_of(energy, space, plan) for plan in plans] for alpha, energy in energies.items()}
    floor = 1e-6
    truth = np.log(np.maximum(measured, floor))
    errors = {a: float(np.mean((np.log(np.maximum(v, floor)) - truth) ** 2)) for a, v in values.items()}
    alpha = min(errors, key=lambda a: errors[a])
    return Correlation(
        tuple(plans),
        tuple(values[alpha]),
        tuple(values[0.0]),
        tuple(measured),
        rank_correlation(values[alpha], measured),
        rank_correlation(values[0.0], measured),
        alpha,
    )


def energy_of(energy: Energy, space: Space, choices: Mapping[str, str]) -> float:
    """An energy's value for choices by name."""
    offsets = np.concatenate([[0], np.cumsum(space.sizes)]).astype(int)
    x = np.zeros(int(offsets[-1]))
    for u, unit in enumerate(space.units):
        x[offsets[u] + (unit.index(choices[unit.name]) if unit.name in choices else 0)] = 1.0
    return energy.value(x)


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's rank correlation; NaN for fewer than three points."""
    if len(a) < 3:
        return float("nan")
    result: Any = stats.spearmanr(a, b)
    return float(result.statistic)
