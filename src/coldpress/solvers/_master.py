"""The small convex programme over known plans: which mixture of them has the least relaxed energy inside the budget."""

from __future__ import annotations

import numpy as np
import scipy.linalg as sla

from coldpress.solvers._state import Floats


def best_mixture(
    gram: Floats, linear: Floats, costs: Floats, room: Floats, penalty: float, tolerance: float = 1e-8
) -> tuple[Floats, Floats]:
    """Minimise ``w' gram w / 2 + linear' w + penalty * excess`` over ``sum(w) = 1, w >= 0``.

    ``excess`` is what ``costs @ w`` exceeds ``room`` by. Mehrotra's predictor-corrector interior-point method.

    Args:
        gram: shape ``(k, k)``, positive semi-definite.
        linear: shape ``(k,)``.
        costs: shape ``(Q, k)``.
        room: shape ``(Q,)``.
        penalty: price of a unit of excess, large enough that it is not paid where the budget can be met.
        tolerance: of the residuals and of complementarity, relative.

    Returns:
        The weights ``(k,)`` and the prices of the limits ``(Q,)``, at least 0.
    """
    k, Q = len(linear), len(room)
    if k == 1:
        return np.ones(1), np.where(costs[:, 0] > room, penalty, 0.0)
    scale = max(float(np.abs(linear).max()), float(np.abs(gram).max()), 1e-300)
    gram, linear, penalty = gram / scale, linear / scale, penalty / scale
    A = np.zeros((Q + 1, k + 2 * Q))
    A[0, :k] = 1.0
    A[1:, :k] = costs
    A[1:, k : k + Q] = np.eye(Q)
    A[1:, k + Q :] = -np.eye(Q)
    b = np.concatenate([[1.0], room])
    c = np.concatenate([linear, np.zeros(Q), np.full(Q, penalty)])
    w0 = np.full(k, 1.0 / k)
    excess = costs @ w0 - room
    x = np.concatenate([w0, np.maximum(-excess, 0.0) + 0.1, np.maximum(excess, 0.0) + 0.1])
    dual = np.zeros(Q + 1)
    z = np.full(len(x), 1.0)
    diagonal = np.arange(k)
    for _ in range(60):
        hx = np.zeros(len(x))
        hx[:k] = gram @ x[:k]
        r_dual = hx + c - A.T @ dual - z
        r_primal = A @ x - b
        mu = float(x @ z) / len(x)
        if mu < tolerance * 1e-2 and np.abs(r_primal).max() < tolerance and np.abs(r_dual).max() < tolerance:
            break
        D = z / x
        block = gram.copy()
        block[diagonal, diagonal] += D[:k] + 1e-13
        try:
            factor = sla.cho_factor(block, lower=True, check_finite=False)
        except np.linalg.LinAlgError:
            break
        solved = np.empty((len(x), Q + 1))
        solved[:k] = sla.cho_solve(factor, A[:, :k].T, check_finite=False)
        solved[k:] = A[:, k:].T / D[k:, None]
        schur = A @ solved
        schur[np.arange(Q + 1), np.arange(Q + 1)] += 1e-14
        schur_inverse = np.linalg.inv(schur)

        def direction(target: Floats) -> tuple[Floats, Floats, Floats]:
            right = -r_dual + target / x - z  # noqa: B023
            part = np.empty(k + 2 * Q)
            part[:k] = sla.cho_solve(factor, right[:k], check_finite=False)  # noqa: B023
            part[k:] = right[k:] / D[k:]  # noqa: B023
            d_dual = schur_inverse @ (-r_primal - A @ part)  # noqa: B023
            dx = part + solved @ d_dual  # noqa: B023
            return dx, d_dual, (target - z * dx) / x - z  # noqa: B023

        dx, d_dual, dz = direction(np.zeros(len(x)))
        step = min(_longest(x, dx), _longest(z, dz))
        centred = float((x + step * dx) @ (z + step * dz)) / len(x)
        sigma = (centred / mu) ** 3
        dx, d_dual, dz = direction(sigma * mu - dx * dz)
        step = 0.995 * min(_longest(x, dx), _longest(z, dz))
        x, dual, z = x + step * dx, dual + step * d_dual, z + step * dz
    weights = np.maximum(x[:k], 0.0)
    return weights / weights.sum(), np.clip(-dual[1:], 0.0, penalty) * scale


def _longest(x: Floats, dx: Floats) -> float:
    """The longest step of at most 1 / 0.995 that keeps ``x`` positive."""
    falling = dx < 0
    return min(1.0 / 0.995, float((-x[falling] / dx[falling]).min(initial=np.inf)))
