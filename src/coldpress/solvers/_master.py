"""The small convex programme over known plans: which mixture of them has the least relaxed energy inside the budget."""

from __future__ import annotations

import numba
import numpy as np

from coldpress.solvers._state import Floats

_compiled = numba.njit(cache=True, nogil=True)


@_compiled
def best_mixture(
    gram: Floats, linear: Floats, costs: Floats, room: Floats, penalty: float, tolerance: float = 1e-8
) -> tuple[Floats, Floats]:
    """Minimise ``w' gram w / 2 + linear' w + penalty * excess`` over ``sum(w) = 1, w >= 0``.

    ``excess`` is what ``costs' w`` exceeds ``room`` by. Mehrotra's predictor-corrector interior-point method, on the
    weights, the slack of every limit and its excess, ``k + 2 Q`` variables and ``1 + Q`` equations.

    Args:
        gram: shape ``(k, k)``, positive semi-definite.
        linear: shape ``(k,)``.
        costs: shape ``(k, Q)``.
        room: shape ``(Q,)``.
        penalty: price of a unit of excess, large enough that it is not paid where the budget can be met.
        tolerance: of the residuals and of complementarity, relative.

    Returns:
        The weights ``(k,)`` and the prices of the limits ``(Q,)``, at least 0.
    """
    k, Q = costs.shape
    if k == 1:
        return np.ones(1), np.where(costs[0] > room, penalty, 0.0)
    scale = max(np.abs(linear).max(), np.abs(gram).max(), 1e-300)
    A = np.zeros((Q + 1, k + 2 * Q))
    A[0, :k] = 1.0
    b, c, x = np.ones(Q + 1), np.zeros(k + 2 * Q), np.full(k + 2 * Q, 1.0 / k)
    c[:k] = linear / scale
    for q in range(Q):
        A[1 + q, :k] = costs[:, q]
        A[1 + q, k + q], A[1 + q, k + Q + q] = 1.0, -1.0
        b[1 + q], c[k + Q + q] = room[q], penalty / scale
        excess = costs[:, q].mean() - room[q]
        x[k + q], x[k + Q + q] = max(-excess, 0.0) + 0.1, max(excess, 0.0) + 0.1
    dual, z = np.zeros(Q + 1), np.ones(k + 2 * Q)
    H = gram / scale
    for _ in range(50):
        r_dual = c - A.T @ dual - z
        r_dual[:k] += H @ x[:k]
        r_primal = A @ x - b
        mu = (x @ z) / len(x)
        if mu < tolerance * 0.1 and np.abs(r_primal).max() < tolerance and np.abs(r_dual).max() < tolerance:
            break
        D = z / x
        block = H + np.diag(D[:k] + 1e-13)
        block += np.diag(1e-13 * np.diag(block))  # plans that are alike, or cost the same, make it singular
        solved = np.empty((k + 2 * Q, Q + 1))
        inverse = np.linalg.inv(block)
        solved[:k] = inverse @ np.ascontiguousarray(A[:, :k].T)
        solved[k:] = A[:, k:].T / D[k:].reshape(-1, 1)
        reduced = A @ solved
        schur = np.linalg.inv(reduced + np.diag(1e-13 * np.diag(reduced) + 1e-14))
        target = np.zeros(k + 2 * Q)
        for attempt in range(2):
            right = target / x - z - r_dual
            part = right / D
            part[:k] = inverse @ right[:k]
            d_dual = schur @ (-r_primal - A @ part)
            dx = part + solved @ d_dual
            dz = (target - z * dx) / x - z
            step = min(_longest(x, dx), _longest(z, dz))
            if attempt == 0:
                centred = ((x + step * dx) @ (z + step * dz)) / len(x)
                target = (centred / mu) ** 3 * mu - dx * dz
        step *= 0.995
        x, dual, z = x + step * dx, dual + step * d_dual, z + step * dz
    weights = np.maximum(x[:k], 0.0)
    return weights / weights.sum(), np.minimum(np.maximum(-dual[1:], 0.0), penalty / scale) * scale


@_compiled
def _longest(x: Floats, dx: Floats) -> float:
    """The longest step of at most 1 / 0.995 that keeps ``x`` positive."""
    longest = 1.0 / 0.995
    for i in range(len(x)):
        if dx[i] < 0.0:
            longest = min(longest, -x[i] / dx[i])
    return longest
