"""The forms that a factor is stored in, and rows of weights brought into them: levels, zeros in a pattern, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coldpress.errors import SurgeryError
from coldpress.surgery._levels import Layer, search
from coldpress.surgery.rounding_starts import one_pass, ordered

SHRINKS = tuple(np.linspace(0.2, 1.0, 17))
"""Scales that are tried, as fractions of the one that spans a row; ternary weights take less than half of it."""
FINE = 1 << 40
"""Levels of a row's span that stand for floats where only the zeros are chosen."""


@dataclass(frozen=True)
class FactorForm:
    """How a factor is stored.

    Attributes:
        top: greatest level; levels are from ``-top`` to ``top`` times a scale a row. None: floats.
        pattern: (n, m), n of each m neighbours in a row are not zero; None: all may be.
    """

    top: int | None = None
    pattern: tuple[int, int] | None = None

    @classmethod
    def named(cls, words: str) -> FactorForm:
        """The form called "float", "int8", "int4" (2 to 8 bits), "ternary", "2:4" (n:m), or two words, "int8 2:4".

        Raises:
            SurgeryError: no form is called so.
        """
        top, pattern = None, None
        for word in words.split():
            keep, colon, of = word.partition(":")
            if colon and keep.isdigit() and of.isdigit() and 0 < int(keep) < int(of) and pattern is None:
                pattern = (int(keep), int(of))
            elif word == "ternary":
                top = 1
            elif word.startswith("int") and word[3:] in tuple("2345678"):
                top = 2 ** (int(word[3:]) - 1) - 1
            elif word != "float":
                raise SurgeryError(
                    f"{word!r} is no form of a factor; give float, int2 to int8, ternary, n:m with 0 < n < m, or two "
                    "of these, 'int8 2:4' say"
                )
        return cls(top, pattern)

    @property
    def free(self) -> bool:
        """Whether these are floats that may all be anything."""
        return self.top is None and self.pattern is None

    def bytes(self, rows: int, columns: int) -> int:
        """Bytes of a factor, packed: levels (ternary: 2 bits), an fp32 scale a row, and a bit each for where zeros are.

        Args:
            rows, columns: of the factor.
        """
        n, m = self.pattern or (1, 1)
        stored = rows * (columns // m * n + columns % m)
        bits = 32 if self.top is None else self.top.bit_length() + 1
        places = rows * columns if self.pattern else 0
        return -(-(stored * bits + places) // 8) + (0 if self.top is None else 4 * rows)


@dataclass(frozen=True, eq=False)
class Formed:
    """A factor in its form.

    Attributes:
        value: ``(rows, columns)``, float64.
        levels: int16, as many; None for floats.
        scales: ``(rows, 1)`` float32; None for floats.
    """

    value: Tensor
    levels: Tensor | None = None
    scales: Tensor | None = None


def formed(target: Tensor, hessians: Tensor, form: FactorForm) -> Formed:
    """Rows brought into a form in one pass: GPTQ, or SparseGPT, each row at the best of some scales.

    Args:
        target: ``(rows, columns)``.
        hessians: of the error about it, ``(1, columns, columns)`` for all rows, or one each.
        form: how it will be stored.
    """
    if form.free:
        return Formed(target)
    if len(hessians) > 1:
        rows = [formed(row[None], hessian[None], form) for row, hessian in zip(target, hessians)]
        return _stacked(rows)
    hessian = hessians[0]
    columns = ordered(hessian, by_activation=form.pattern is None)
    span = target.abs().amax(dim=1, keepdim=True).clamp_min(1e-30)
    if form.top is None:
        levels = one_pass(target, columns, span / FINE, -4 * FINE, 4 * FINE, form.pattern)
        return _refitted(target, hessian, levels != 0)
    # all scales at once: the pass goes through the columns one by one, in Python, and its rows are independent
    grids = (span * torch.tensor(SHRINKS, dtype=span.dtype) / form.top).float().double()  # (rows, shrinks)
    many, scales = target.repeat_interleave(len(SHRINKS), dim=0), grids.reshape(-1, 1)
    levels = one_pass(many, columns, scales, -form.top, form.top, form.pattern)
    missed = many - levels * scales
    errors = ((missed @ hessian) * missed).sum(dim=1).reshape(grids.shape)
    best = errors.argmin(dim=1) + len(SHRINKS) * torch.arange(len(target))
    levels, scales = levels[best], scales[best]
    return Formed(levels * scales, levels.to(torch.int16), scales.float())


def improved(
    given: Formed, target: Tensor, hessians: Tensor, form: FactorForm, heats: Sequence[float] = (0.0,), seed: int = 0
) -> Formed:
    """The factor with less error about a target, or as it was.

    Levels are searched as by `coldpress.round_weights`; floats with a pattern are fitted where they are not zero.

    Args:
        given: in its form.
        target: ``(rows, columns)``.
        hessians: ``(1, columns, columns)``, or one a row.
        form: of the factor.
        heats: temperatures of the search's sweeps, as fractions of a weight's mean error; 0 descends.
        seed: of the search.
    """
    if form.free:
        return Formed(target)
    if len(hessians) > 1:
        rows = zip(given.value, target, hessians, strict=True)
        parts = [
            improved(_row(given, i, value), aim[None], own[None], form, heats, seed + i)
            for i, (value, aim, own) in enumerate(rows)
        ]
        return _stacked(parts)
    hessian = hessians[0]
    if given.levels is None or given.scales is None:
        return _refitted(target, hessian, given.value != 0)
    assert form.top is not None
    levels, scales = given.levels.numpy().copy(), given.scales.numpy().copy()
    own = (hessian / hessian.diagonal().mean().clamp_min(1e-30)).float().numpy()  # errors are relative in the search
    group, block = np.zeros(target.shape[1], np.int32), form.pattern[1] if form.pattern else 0
    shared = Layer(own, group, own.diagonal() > 0, block, -form.top, form.top)
    search(target.float().numpy(), shared, levels, scales, np.array(heats, np.float32), True, seed)
    found = torch.from_numpy(levels), torch.from_numpy(scales)
    value = found[0].double() * found[1].double()

    def error(value: Tensor) -> Tensor:
        missed = target - value
        return ((missed @ hessian) * missed).sum(dim=1, keepdim=True)

    better = error(value) < error(given.value)
    return Formed(
        torch.where(better, value, given.value),
        torch.where(better, found[0], given.levels),
        torch.where(better, found[1], given.scales),
    )


def _refitted(target: Tensor, hessian: Tensor, there: Tensor) -> Formed:
    """Floats that are zero where ``there`` is not, of least error about the target."""
    found = torch.zeros_like(target)
    for i, (row, own) in enumerate(zip(target, there)):
        index = own.nonzero().ravel()
        inner = hessian[index][:, index]
        ridge = 1e-10 * inner.diagonal().mean() if len(index) else 0.0
        damped = inner + ridge * torch.eye(len(index), dtype=inner.dtype)
        found[i, index] = torch.linalg.lstsq(damped, hessian[index] @ row[:, None]).solution[:, 0]
    return Formed(found)


def _row(given: Formed, i: int, value: Tensor) -> Formed:
    if given.levels is None or given.scales is None:
        return Formed(value[None])
    return Formed(value[None], given.levels[i : i + 1], given.scales[i : i + 1])


def _stacked(rows: Sequence[Formed]) -> Formed:
    levels = [row.levels for row in rows if row.levels is not None]
    scales = [row.scales for row in rows if row.scales is not None]
    value = torch.cat([row.value for row in rows])
    return Formed(value, torch.cat(levels) if levels else None, torch.cat(scales) if scales else None)
