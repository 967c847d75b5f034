"""A whole network's weights rounded, layer after layer in network order, each to the original's activations.

A layer is first re-fitted to what the rounded layers before it hand on, then rounded where its output's error is least
on these very inputs, and its bias takes up the mean of what is left: so every layer makes up for those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coldpress.errors import SurgeryError
from coldpress.surgery.leastsquares import DAMPING
from coldpress.surgery.refit import dense_weight, refit, set_weight
from coldpress.surgery.round_weights import SWEEPS, Rounded, kept_of, round_weights


@dataclass(frozen=True)
class Form:
    """How a layer's weights are stored.

    Attributes:
        bits: of a level, 2 to 8.
        sparsity: fraction of zeros or "n:m" (see `round_weights`); None: none are asked for.
        group_size: columns that share a scale; None: a whole row does.
    """

    bits: int
    sparsity: float | str | None = None
    group_size: int | None = None

    @property
    def label(self) -> str:
        """In words, "3 bits, 0.5 zero" say."""
        parts = [f"{self.bits} bits"]
        if self.sparsity is not None:
            parts.append(f"{self.sparsity} kept" if isinstance(self.sparsity, str) else f"{self.sparsity:g} zero")
        if self.group_size is not None:
            parts.append(f"groups of {self.group_size}")
        return ", ".join(parts)

    def bytes(self, rows: int, columns: int) -> int:
        """Bytes that a layer takes, packed: levels, fp32 scales and, of sparse weights, a bit each for where they are.

        Args:
            rows, columns: of the weight matrix.
        """
        groups = 1 if self.group_size is None else -(-columns // self.group_size)
        levels = rows * kept_of(self.sparsity, columns)
        places = rows * columns if levels < rows * columns else 0
        return -(-(levels * self.bits + places) // 8) + 4 * rows * groups


def round_layers(
    student: nn.Module,
    teacher: nn.Module,
    inputs: Sequence[Tensor],
    forms: Mapping[str, Form],
    *,
    start: str = "gptq",
    sweeps: int = SWEEPS,
    refine_scales: bool = True,
    damping: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Rounded]:
    """Round layers of ``student`` in place; those without a form are re-fitted and keep floats.

    With ``sweeps=0``, ``refine_scales=False`` and ``damping=math.inf`` this is GPTQ (or rounding to nearest) of a whole
    network, but for the mean that the biases take up.

    Args:
        student: a copy of the teacher, or its compressed form without factorised layers.
        teacher: the original.
        inputs: calibration inputs, each ``(images, ...)``; all run through the student at once.
        forms: by layer: convolutions of one group, and linears.
        start, sweeps, refine_scales: of `round_weights`.
        damping: of the least squares before (see `refit`); +inf rounds the weights as they are.
        seed: of the search, and of the positions looked at.
        progress: called with (layers done, layers in all).

    Returns:
        What every layer was rounded to, in network order.

    Raises:
        SurgeryError: a layer that was named is none that can be rounded, or its weights or inputs are not finite.
    """
    found: dict[str, Rounded] = {}

    def fitted(name: str, moments: Tensor) -> None:
        if name not in forms:
            return
        form, module = forms[name], student.get_submodule(name)
        dense = dense_weight(module)
        weight, bias = dense[:, :-1], dense[:, -1]
        mean = moments[:-1, -1] / moments[-1, -1]
        found[name] = round_weights(
            weight,
            covariance(moments),
            form.bits,
            form.sparsity,
            start,
            sweeps,
            refine_scales,
            seed=seed,
            group_size=form.group_size,
        )
        value = found[name].dequantized.double()
        set_weight(module, torch.cat([value, (bias + (weight - value) @ mean)[:, None]], dim=1))

    refit(
        student, teacher, inputs, outputs={}, factored={}, seed=seed, damping=damping, fitted=fitted, progress=progress
    )
    missing = [name for name in forms if name not in found]
    if missing:
        raise SurgeryError(
            f"{missing[0]!r} cannot be rounded: it is no linear layer or convolution of one group that the network "
            "calls; leave it out"
        )
    return found


def covariance(moments: Tensor) -> Tensor:
    """Of a layer's inputs, ``(columns, columns)``, from moments with the constant last; with a small ridge.

    The mean does not count: a bias takes up what it brings.
    """
    mean = moments[:-1, -1] / moments[-1, -1]
    centred = moments[:-1, :-1] / moments[-1, -1] - torch.outer(mean, mean)
    ridge = DAMPING * centred.diagonal().mean().clamp_min(1e-12)
    return centred + ridge * torch.eye(len(centred), dtype=centred.dtype)
