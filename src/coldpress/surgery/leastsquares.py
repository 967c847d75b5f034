"""Which channels go, and the weights of those that stay, by second-order surgery on a layer's output error.

Channel-level optimal brain surgeon (Hassibi and Stork 1993; OBC, Frantar and Alistarh 2022, by blocks of columns):
removing the columns B of a consumer W with inverse second moments P costs tr(W_B (P_BB)^-1 W_B^T) once all other
weights have moved to make up for it. Where several layers read the channels, their relative costs are added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

DAMPING = 1e-3
"""Ridge toward the given weights, relative to the mean diagonal of the second moments."""


def damping_for(columns: int, rows: int) -> float:
    """The ridge that so many rows of data call for: more where there are few rows for the columns."""
    return DAMPING * (1.0 + 10.0 * columns / max(rows, 1))


@dataclass(frozen=True)
class Consumer:
    """A layer that reads the channels of a group.

    Attributes:
        weight: ``(outputs, columns + 1)``, float64, the bias in the last column.
        moments: ``(columns + 1, columns + 1)``, float64; None where they are too many: then only norms are used.
        index: ``(channels, repeat)`` the columns of each channel.
    """

    weight: Tensor
    moments: Tensor | None
    index: Tensor


def damped(moments: Tensor) -> Tensor:
    """Moments with the ridge added to all columns but the constant."""
    ridge = DAMPING * moments.diagonal()[:-1].mean().clamp_min(1e-12)
    diagonal = torch.full((len(moments),), float(ridge), dtype=moments.dtype)
    diagonal[-1] = 1e-9
    return moments + torch.diag(diagonal)


def elimination_order(consumers: Sequence[Consumer], channels: int, atom: int = 1, steps: int = 40) -> list[int]:
    """Channels in the order in which they go, cheapest first; the last atom stays and ends the list.

    Args:
        consumers: the layers that read the channels, at least one.
        channels: how many there are.
        atom: channels that go together, neighbours.
        steps: in how many rounds at most; within a round costs are not updated.
    """
    atoms = channels // atom
    states = [_State(consumer, atom) for consumer in consumers]
    live = torch.arange(atoms)
    chunk = max(1, atoms // steps)
    order: list[int] = []
    while len(live) > 1:
        cost = sum((state.costs(len(live)) for state in states), start=torch.zeros(len(live), dtype=torch.float64))
        count = min(chunk, len(live) - 1)
        gone = torch.topk(cost, count, largest=False).indices
        order += live[gone].tolist()
        stay = torch.ones(len(live), dtype=torch.bool)
        stay[gone] = False
        for state in states:
            state.remove(stay)
        live = live[stay]
    order += live.tolist()
    return [a * atom + i for a in order for i in range(atom)]


class _State:
    """One consumer while its channels go: weights and inverse moments of their columns that are still there.

    Columns that stay whatever happens (of other groups, the constant) are in the inverse, and need not be kept.
    """

    def __init__(self, consumer: Consumer, atom: int) -> None:
        index = consumer.index.reshape(consumer.index.shape[0] // atom, -1)
        self.width = index.shape[1]
        dense = consumer.moments is not None and consumer.moments.shape[0] > 600
        dtype = torch.float32 if dense else torch.float64
        own = index.ravel()  # atom by atom
        self.weight = consumer.weight[:, own].to(dtype)
        self.inverse: Tensor | None = None
        if consumer.moments is None:
            self.scale = float(consumer.weight.square().sum()) + 1e-30
        else:
            moments = damped(consumer.moments)
            self.scale = float(((consumer.weight @ moments) * consumer.weight).sum()) + 1e-30
            self.inverse = _inverse_part(moments, own).to(dtype)

    def costs(self, atoms: int) -> Tensor:
        """Relative output error of removing each atom: ``(atoms,)``."""
        own = self.weight[:, : atoms * self.width].reshape(-1, atoms, self.width)
        if self.inverse is None:
            return own.square().sum(dim=(0, 2)).double() / self.scale
        span = torch.arange(atoms * self.width).reshape(atoms, self.width)
        blocks = self.inverse[span[:, :, None], span[:, None, :]].double()
        gram = torch.einsum("oai,oaj->aij", own.double(), own.double())
        return torch.linalg.solve(blocks, gram).diagonal(dim1=1, dim2=2).sum(1) / self.scale

    def remove(self, stay: Tensor) -> None:
        keep = torch.ones(self.weight.shape[1], dtype=torch.bool)
        keep[: len(stay) * self.width] = stay.repeat_interleave(self.width)
        if self.inverse is None:
            self.weight = self.weight[:, keep]
            return
        gone = ~keep
        cross = self.inverse[keep][:, gone]
        solved = torch.linalg.solve(self.inverse[gone][:, gone], cross.T)  # (gone, keep)
        self.weight = self.weight[:, keep] - self.weight[:, gone] @ solved
        self.inverse = self.inverse[keep][:, keep] - cross @ solved


def _inverse_part(matrix: Tensor, index: Tensor) -> Tensor:
    """Rows and columns of the inverse of a positive definite matrix, ``(index, index)``."""
    factor = torch.linalg.cholesky(matrix)
    if 3 * len(index) > len(matrix):
        return torch.cholesky_inverse(factor)[index][:, index]
    unit = torch.zeros(len(matrix), len(index), dtype=matrix.dtype)
    unit[index, torch.arange(len(index))] = 1.0
    half = torch.linalg.solve_triangular(factor, unit, upper=False)
    return half.T @ half


def refit_columns(weight: Tensor, moments: Tensor, kept: Tensor, damping: float = DAMPING) -> Tensor:
    """Weights on the kept columns that best reproduce the outputs of all columns.

    Minimises ||W' x_S - W x||^2 + ridge ||W' - W_S||^2 over the moments' data.

    Args:
        weight: ``(outputs, columns + 1)``, the bias last.
        moments: ``(columns + 1, columns + 1)``.
        kept: ``(kept,)`` indices of the columns that stay, without the constant, which always stays.
        damping: see ``damping_for``.

    Returns:
        ``(outputs, kept + 1)``.
    """
    kept = torch.cat([kept, torch.tensor([len(moments) - 1])])
    return solve(weight @ moments[:, kept], moments[kept][:, kept], weight[:, kept], damping)


def solve(cross: Tensor, moments: Tensor, prior: Tensor, damping: float = DAMPING) -> Tensor:
    """Ridge regression toward a prior: argmin_W tr(W M W^T) - 2 tr(W cross^T) + ridge ||W - prior||^2.

    Args:
        cross: ``(outputs, columns + 1)``, E[y x^T].
        moments: ``(columns + 1, columns + 1)``, E[x x^T].
        prior: ``(outputs, columns + 1)``.
        damping: ridge relative to the mean diagonal of the moments, the constant excepted.
    """
    ridge = damping * moments.diagonal()[:-1].mean().clamp_min(1e-12)
    diagonal = torch.full((len(moments),), float(ridge), dtype=moments.dtype)
    diagonal[-1] = 1e-9
    factor = torch.linalg.cholesky(moments + torch.diag(diagonal))
    return torch.cholesky_solve((cross + prior * diagonal).T, factor).T


def centred(weight: Tensor, moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A layer about its inputs' mean.

    Args:
        weight: ``(outputs, columns + 1)``, the bias last.
        moments: ``(columns + 1, columns + 1)``.

    Returns:
        The weights without the bias, the inputs' covariance ``(columns, columns)``, and the mean output.
    """
    mean = moments[:-1, -1] / moments[-1, -1]
    covariance = moments[:-1, :-1] - moments[-1, -1] * torch.outer(mean, mean)
    plain = weight[:, :-1]
    return plain, covariance, plain @ mean + weight[:, -1]


def fit_right(weight: Tensor, covariance: Tensor, lift: Tensor) -> Tensor:
    """argmin_V ||(W - V lift^T) x||^2 under the covariance: ``(outputs, lifted)``."""
    inner = lift.T @ covariance @ lift
    ridge = 1e-8 * inner.diagonal().mean().clamp_min(1e-20)
    factor = torch.linalg.cholesky(inner + ridge * torch.eye(len(inner), dtype=inner.dtype))
    return torch.cholesky_solve((weight @ covariance @ lift).T, factor).T
