"""Single channels within budgets that are products of widths: exact costs are kept, however they were linearised."""

from __future__ import annotations

import numpy as np
import pytest

from coldpress.atoms import Atoms, choose_atoms
from coldpress.cost.widths import WidthCost
from coldpress.errors import BudgetError
from tiny import build, inputs_of, space_of

NAME = "padded shortcuts"


def parts(**shares: float) -> tuple[Atoms, dict[str, WidthCost], dict[str, float]]:
    space = space_of(build(NAME), inputs_of(NAME), "width")
    atoms = Atoms.of(space)
    costs = {"macs": WidthCost(space, lambda shape: shape.macs), "size": WidthCost(space, lambda shape: shape.bytes)}
    costs = {name: costs[name] for name in shares}
    return atoms, costs, {name: share * costs[name].value(costs[name].full) for name, share in shares.items()}


def energy(atoms: Atoms, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n = len(atoms.groups)
    return rng.exponential(size=n), 0.3 * rng.normal(size=(n, 4))


@pytest.mark.parametrize("shares", [{"macs": 0.7}, {"macs": 0.75, "size": 0.7}])
@pytest.mark.parametrize("step", [1, 4])
def test_exact_costs_meet_the_limits_and_use_them(shares: dict[str, float], step: int) -> None:
    atoms, costs, limits = parts(**shares)
    steps = np.full(len(atoms.names), step)
    found = choose_atoms(atoms, energy(atoms), costs, limits, steps, time_limit=2.0)
    gone = np.bincount(atoms.groups[found.chosen], minlength=len(atoms.names))
    stay = atoms.counts - gone
    assert (stay >= atoms.fewest).all()
    for name, cost in costs.items():
        assert cost.value(stay * atoms.sizes) <= limits[name] * (1 + 1e-9)
    if step == 1:
        assert max(cost.value(stay * atoms.sizes) / limits[name] for name, cost in costs.items()) > 0.95
    else:
        assert (stay % step == 0).all()
    kept = atoms.kept(found.chosen)
    assert {name: len(channels) for name, channels in kept.items()} == {
        name: int(stay[u] * atoms.sizes[u]) for u, name in enumerate(atoms.names) if gone[u]
    }


def test_what_cannot_be_met_is_refused() -> None:
    atoms, costs, limits = parts(macs=1e-3)
    with pytest.raises(BudgetError, match=r"meets the limits|ask for less"):
        choose_atoms(atoms, energy(atoms), costs, limits, np.ones(len(atoms.names), int), time_limit=1.0)
