"""What a product of two factors misses of a layer's weights, and the best factor, or row, while all else is held.

Two measures: the error of the layer's output on real inputs, tr (W - AB) H (W - AB)^T with H = X X^T, whose optimum of
a rank is a singular value decomposition; and one weight for each entry, sum_ij E_ij (W - AB)_ij^2, which has no closed
form (Srebro and Jaakkola, "Weighted low-rank approximations", 2003).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class FactorError(Protocol):
    """A measure of A ``(rows, rank)`` times B ``(rank, columns)`` against the weight, all float64."""

    @property
    def weight(self) -> Tensor:
        """W, ``(rows, columns)``."""

    def of(self, left: Tensor, right: Tensor) -> Tensor:
        """The error, a scalar that can be differentiated."""

    def start(self, rank: int) -> tuple[Tensor, Tensor]:
        """A and B from a singular value decomposition, A's columns orthonormal."""

    def best_left(self, right: Tensor) -> tuple[Tensor, Tensor]:
        """The best A for a B, and the Hessian of a row of A, ``(rows, rank, rank)`` or ``(1, rank, rank)``."""

    def best_right(self, left: Tensor) -> Tensor:
        """The best B for an A."""

    def best_row(self, left: Tensor, right: Tensor, k: int) -> Tensor:
        """The best row k of B, ``(columns,)``, all else held."""

    def row_hessians(self, left: Tensor) -> Tensor:
        """The Hessians of the rows of B, each about its best and to a factor: ``(1 or rank, columns, columns)``."""


@dataclass(frozen=True, eq=False)
class OutputError:
    """tr (W - AB) H (W - AB)^T.

    Attributes:
        weight: ``(rows, columns)``.
        hessian: ``(columns, columns)``, symmetric and positive definite.
    """

    weight: Tensor
    hessian: Tensor

    def of(self, left: Tensor, right: Tensor) -> Tensor:
        missed = self.weight - left @ right
        return ((missed @ self.hessian) * missed).sum()

    def start(self, rank: int) -> tuple[Tensor, Tensor]:
        """The optimum of the rank: A spans the strongest directions of the outputs."""
        outputs = self.weight @ self.hessian @ self.weight.T
        left = torch.linalg.eigh((outputs + outputs.T) / 2).eigenvectors[:, -rank:].flip(1)
        return left, left.T @ self.weight

    def best_left(self, right: Tensor) -> tuple[Tensor, Tensor]:
        fed = right @ self.hessian
        own = fed @ right.T
        return self.weight @ fed.T @ torch.linalg.pinv(own, hermitian=True), own[None]

    def best_right(self, left: Tensor) -> Tensor:
        return torch.linalg.pinv(left) @ self.weight

    def best_row(self, left: Tensor, right: Tensor, k: int) -> Tensor:
        column = left[:, k]
        missed = column @ self.weight - (column @ left) @ right
        return right[k] + missed / (column @ column).clamp_min(1e-30)

    def row_hessians(self, left: Tensor) -> Tensor:
        return self.hessian[None]


@dataclass(frozen=True, eq=False)
class ElementError:
    """sum_ij E_ij (W - AB)_ij^2.

    Attributes:
        weight: ``(rows, columns)``.
        elements: E, as many, none negative.
    """

    weight: Tensor
    elements: Tensor

    def of(self, left: Tensor, right: Tensor) -> Tensor:
        return (self.elements * (self.weight - left @ right).square()).sum()

    def start(self, rank: int) -> tuple[Tensor, Tensor]:
        """The optimum were E a product of a row's and a column's weight: exact then, a start else."""
        total = self.elements.sum().clamp_min(1e-30)
        rows = (self.elements.sum(1) / total.sqrt()).clamp_min(1e-12 * total.sqrt()).sqrt()
        columns = (self.elements.sum(0) / total.sqrt()).clamp_min(1e-12 * total.sqrt()).sqrt()
        u, s, v = torch.linalg.svd(rows[:, None] * self.weight * columns, full_matrices=False)
        left, mixed = torch.linalg.qr(u[:, :rank] / rows[:, None])
        return left, mixed @ (s[:rank, None] * v[:rank] / columns)

    def best_left(self, right: Tensor) -> tuple[Tensor, Tensor]:
        own = torch.einsum("kj,ij,lj->ikl", right, self.elements, right)
        along = (self.elements * self.weight) @ right.T
        return (torch.linalg.pinv(own, hermitian=True) @ along[:, :, None])[:, :, 0], own

    def best_right(self, left: Tensor) -> Tensor:
        own = torch.einsum("ik,ij,il->jkl", left, self.elements, left)
        along = (self.elements * self.weight).T @ left
        return (torch.linalg.pinv(own, hermitian=True) @ along[:, :, None])[:, :, 0].T

    def best_row(self, left: Tensor, right: Tensor, k: int) -> Tensor:
        own = left[:, k].square() @ self.elements
        along = left[:, k] @ (self.elements * (self.weight - left @ right))
        return right[k] + along / own.clamp_min(1e-30)

    def row_hessians(self, left: Tensor) -> Tensor:
        return torch.diag_embed(left.square().T @ self.elements)
