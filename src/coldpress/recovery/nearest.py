"""How far a student is from the original, and BatchNorm recalibrated where that brings it nearer."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from coldpress.network import divergence, evaluating, logits_of
from coldpress.recovery.batchnorm import recalibrate


def apart(model: nn.Module, student: nn.Module, inputs: Sequence[Tensor]) -> float:
    """Mean KL divergence (nats) of the student's outputs from the model's on ``inputs``, each ``(samples, ...)``."""
    with evaluating(model), evaluating(student):
        return divergence(logits_of(model(*inputs)), logits_of(student(*inputs)))


def nearer(model: nn.Module, student: nn.Module, inputs: Sequence[Tensor], judges: Sequence[Tensor]) -> nn.Module:
    """The student, with its BatchNorms' statistics taken anew where that brings it nearer to the model.

    Args:
        model: the original.
        student: made from it; not changed.
        inputs: that the statistics are of.
        judges: other inputs, that decide.
    """
    renewed = copy.deepcopy(student)
    if recalibrate(renewed, tuple(inputs)) and apart(model, renewed, judges) < apart(model, student, judges):
        student = renewed
    return student.eval()
