"""Channels, heads and neurons that go one by one within budgets that are products of neighbouring widths.

The costs are linearised around the widths of the last answer, and the problem is solved again until exact costs fit.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from coldpress.cost.widths import WidthCost
from coldpress.errors import BudgetError
from coldpress.plan import Space
from coldpress.selection import Bools, Floats, Ints, Selection
from coldpress.solvers.select import Selected, select

ROUNDS = 8
"""Linearisations of the costs at most; the widths hardly move after three."""
_RUNS = 4


@dataclass(frozen=True, eq=False)
class Atoms:
    """What goes one by one: atoms of channels, group after group.

    ``groups`` (atoms,) is each one's unit among the width units, ``sizes`` (units,) the channels in one of its atoms,
    ``counts`` (units,) how many there are, ``fewest`` (units,) how many stay at least.
    """

    names: tuple[str, ...]
    groups: Ints
    sizes: Ints
    counts: Ints
    fewest: Ints

    @classmethod
    def of(cls, space: Space) -> Atoms:
        units = [unit for unit in space.units if unit.kind == "width"]
        groups = [space.groups[unit.name] for unit in units]
        sizes = np.array([group.atom for group in groups], dtype=np.int64)
        counts = np.array([group.channels // group.atom for group in groups], dtype=np.int64)
        fewest = np.array([unit.options[-1].channels or 0 for unit in units], dtype=np.int64) // sizes
        home = np.repeat(np.arange(len(units)), counts)
        return cls(tuple(unit.name for unit in units), home, sizes, counts, np.maximum(fewest, 1))

    def kept(self, chosen: Bools) -> dict[str, tuple[int, ...]]:
        """The channels that stay where the ``chosen`` atoms go, of the units that lose some."""
        found = {}
        for u, name in enumerate(self.names):
            gone = chosen[self.groups == u]
            if gone.any():
                places = np.flatnonzero(~gone)[:, None] * self.sizes[u] + np.arange(self.sizes[u])
                found[name] = tuple(int(i) for i in places.ravel())
        return found


def choose_atoms(
    atoms: Atoms,
    energy: tuple[Floats, Floats],
    costs: Mapping[str, WidthCost],
    limits: Mapping[str, float],
    steps: Ints,
    *,
    seed: int = 0,
    time_limit: float = 10.0,
) -> Selected:
    """The atoms that go: the best answer whose exact costs meet the limits, over some linearisations.

    Args:
        atoms: what can go.
        energy: ``linear`` (atoms,) and ``factor`` (atoms, rank), see `coldpress.selection.Selection`.
        costs: of each limited quantity.
        limits: quantity to its absolute limit.
        steps: widths are whole multiples of so many atoms, ``(units,)``.
        seed: same seed, same answer, where no time limit cuts.
        time_limit: seconds for all linearisations together.

    Returns:
        The answer to the last linearised problem that counts; its bound is of that problem.

    Raises:
        BudgetError: no widths were found that meet the limits.
    """
    base = Selection(*energy, groups=atoms.groups, most=atoms.counts - atoms.fewest)
    gone = _uniform(atoms, costs, limits)
    best: Selected | None = None
    least, deadline = time_limit / ROUNDS, time.perf_counter() + time_limit
    excess = dict.fromkeys(limits, 0.0)
    for _ in range(ROUNDS):
        linear = _linearised(base, atoms, costs, limits, gone, excess)
        # the first counts most, and alone where costs are linear: cut short it would free far more than is asked for
        each = max((deadline - time.perf_counter()) / 2, least)
        try:
            answer = select(linear, seed=seed, time_limit=each, runs=_RUNS)
        except BudgetError:
            break
        after = linear.counts(answer.chosen)
        over = {name: _value(costs[name], atoms, after) - limit for name, limit in limits.items()}
        if all(value <= 1e-9 * limits[name] for name, value in over.items()):
            best = answer if best is None or answer.energy < best.energy else best
            if (after == gone).all():
                break
            excess = dict.fromkeys(limits, 0.0)
        else:  # around the same widths, what was missed is asked for on top
            excess = {name: excess[name] / 2 + 1.1 * max(value, 0.0) for name, value in over.items()}
        gone = after
    if best is None:
        raise BudgetError("no single channels were found whose removal meets the limits; raise the budget")
    if (steps > 1).any():
        counts = _stepped(atoms, base.counts(best.chosen), costs, limits, steps)
        best = select(replace(base, least=counts, most=counts), seed=seed, time_limit=least, runs=_RUNS)
    return best


def _linearised(
    base: Selection,
    atoms: Atoms,
    costs: Mapping[str, WidthCost],
    limits: Mapping[str, float],
    gone: Ints,
    excess: Mapping[str, float],
) -> Selection:
    """The problem whose budgets are the costs' tangents where ``gone`` (units,) atoms are gone."""
    gains, needs = [], []
    for name, cost in costs.items():
        slopes = cost.slopes((atoms.counts - gone) * atoms.sizes, atoms.sizes) * atoms.sizes
        gains.append(slopes[atoms.groups])
        needs.append(_value(cost, atoms, gone) - limits[name] + float(slopes @ gone) + excess[name])
    return replace(base, gains=np.array(gains), needs=np.array(needs))


def _value(cost: WidthCost, atoms: Atoms, gone: Ints) -> float:
    return cost.value((atoms.counts - gone) * atoms.sizes)


def _fits(atoms: Atoms, costs: Mapping[str, WidthCost], limits: Mapping[str, float], gone: Ints) -> bool:
    return all(_value(cost, atoms, gone) <= limits[name] * (1 + 1e-9) for name, cost in costs.items())


def _uniform(atoms: Atoms, costs: Mapping[str, WidthCost], limits: Mapping[str, float]) -> Ints:
    """Atoms gone of each unit, ``(units,)``, where all keep the same share, as large as fits."""
    most = atoms.counts - atoms.fewest
    low, high = 0.0, 1.0
    for _ in range(20):
        share = (low + high) / 2
        gone = np.minimum(np.ceil(share * atoms.counts).astype(np.int64), most)
        low, high = (low, share) if _fits(atoms, costs, limits, gone) else (share, high)
    return np.minimum(np.ceil(high * atoms.counts).astype(np.int64), most)


def _stepped(
    atoms: Atoms, gone: Ints, costs: Mapping[str, WidthCost], limits: Mapping[str, float], steps: Ints
) -> Ints:
    """Atoms gone of each unit, ``(units,)``, where whole steps of widths stay: each width goes up or down to one.

    Those that have most of the next step are the first to go up, as long as the limits allow.
    """
    stay = (atoms.counts - gone) / steps
    most = atoms.counts - atoms.fewest
    for share in np.linspace(1.0, -1.0, 81):  # below 0 even whole steps go down
        widths = np.floor(stay + share) * steps
        trial = np.clip(atoms.counts - widths, 0, most).astype(np.int64)
        if _fits(atoms, costs, limits, trial):
            return trial
    raise BudgetError("no widths in whole steps meet the latency limit near the channels chosen; raise it")
