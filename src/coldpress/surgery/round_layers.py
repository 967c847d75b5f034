"""A whole network's weights rounded, layer after layer in network order, each to the original's activations.

A layer is first re-fitted to what the rounded layers before it hand on, then rounded where its output's error is least
on these very inputs, and its bias takes up the mean of what is left: so every layer makes up for those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor

from torch import Tensor, nn

from coldpress.errors import SurgeryError
from coldpress.surgery.moments import groups_of, unfolds_by_group
from coldpress.surgery.refit import dense_weight, refit, set_weight
from coldpress.surgery.round_groups import Form, Search, round_groups, with_bias
from coldpress.surgery.round_weights import SWEEPS, Rounded


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
    executor: Executor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Rounded]:
    """Round layers of ``student`` in place; those without a form are re-fitted and keep floats.

    With ``sweeps=0``, ``refine_scales=False`` and ``damping=math.inf`` this is GPTQ (or rounding to nearest) of a whole
    network, but for the mean that the biases take up.

    Args:
        student: a copy of the teacher, or its compressed form without factorised layers.
        teacher: the original.
        inputs: calibration inputs, each ``(images, ...)``; all run through the student at once.
        forms: by layer: convolutions, of groups too, and linears.
        start, sweeps, refine_scales: of `round_weights`.
        damping: of the least squares before (see `refit`); +inf rounds the weights as they are.
        seed: of the search, and of the positions looked at.
        executor: shares out each layer's rows, or groups; a layer waits for those before it, for it makes up for them.
        progress: called with (layers done, layers in all).

    Returns:
        What every layer was rounded to, in network order.

    Raises:
        SurgeryError: a layer that was named is none that can be rounded, or its weights or inputs are not finite.
    """
    found: dict[str, Rounded] = {}
    settings = Search(start, sweeps, refine_scales, seed)

    def fitted(name: str, moments: Tensor) -> None:
        if name not in forms:
            return
        module = student.get_submodule(name)
        dense = dense_weight(module)
        found[name] = round_groups(dense, moments, forms[name], settings, executor)
        set_weight(module, with_bias(dense, found[name].dequantized, moments))

    grouped = [name for name in forms if _grouped(teacher.get_submodule(name))]
    refit(
        student, teacher, inputs, outputs={}, factored={}, seed=seed, damping=damping, grouped=grouped, fitted=fitted,
        progress=progress,
    )  # fmt: skip
    missing = [name for name in forms if name not in found]
    if missing:
        raise SurgeryError(
            f"{missing[0]!r} cannot be rounded: it is no linear layer or convolution that pads with zeros and that the "
            "network calls; leave it out"
        )
    return found


def _grouped(module: nn.Module) -> bool:
    return groups_of(module) > 1 and unfolds_by_group(module)
