"""The best mixture of known plans, also of such as are alike or cost the same."""

import numpy as np
import pytest

from coldpress.solvers._master import best_mixture


def degenerate(seed: int):
    """Plans of which many are alike, or all cost the same, at a limit that is kept, met or broken."""
    rng = np.random.default_rng(seed)
    count, limits = int(rng.integers(2, 30)), int(rng.integers(1, 3))
    directions = rng.normal(size=(count, 2)) if seed % 2 else np.repeat(rng.normal(size=(1, 2)), count, 0)
    scale = 10.0 ** rng.integers(-8, 3)
    linear = np.zeros(count) if seed % 5 == 0 else scale * rng.normal(size=count)
    costs = np.full((count, limits), 0.5) if seed % 3 else np.repeat(rng.uniform(0.2, 1, size=(1, limits)), count, 0)
    room = np.full(limits, (0.5, 0.6, 0.4, 0.5 + 5e-10)[seed % 4])
    return scale * directions @ directions.T, linear, costs, room, 1e3 * scale


@pytest.mark.parametrize("seed", range(60))
def test_a_mixture_of_plans_that_are_alike_is_as_good_as_the_best_of_them(seed):
    gram, linear, costs, room, penalty = degenerate(seed)

    def energy(weights):
        excess = np.maximum(costs.T @ weights - room, 0.0).sum()
        return 0.5 * weights @ gram @ weights + linear @ weights + penalty * excess

    weights, prices = best_mixture(gram, linear, costs, room, penalty)
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1.0)
    assert np.isfinite(prices).all()
    best = min(energy(row) for row in np.eye(len(linear)))
    assert energy(weights) <= best + 1e-5 * (np.abs(gram).max() + np.abs(linear).max()) + 1e-6 * abs(best)
