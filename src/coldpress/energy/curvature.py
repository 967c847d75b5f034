"""The default energy: how much a plan moves the logits, measured by the curvature of the KL divergence.

For option o of unit u let d_{u,o} be the change of the logits on calibration data when that option alone is applied,
with its least-squares weights. To second order KL(teacher || compressed) = 1/(2N) sum_n d_n^T S_n d_n with
S_n = diag(p_n) - p_n p_n^T, and to first order the d of a plan is the sum of its options' d. So one run per option,
of the layers behind it only, yields all pairwise terms, and the energy is positive semi-definite.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from coldpress.energy.suffix import Suffix
from coldpress.errors import TaskError
from coldpress.network import evaluating, logits_of
from coldpress.plan import Space
from coldpress.problem import Energy

logger = logging.getLogger("coldpress.energy")

Floats = npt.NDArray[np.float64]
MOST_BYTES = 4_000_000_000
"""Recorded activations held at once; more calibration images than fit are taken in parts."""
MOST_FEATURES = 1 << 18
"""Numbers kept of an option's effect. Where images (or tokens) times classes are more, classes are projected at random
onto fewer: inner products of features stay as they are but for some per cent (Johnson and Lindenstrauss 1984)."""


class Replacing(Protocol):
    """What tells the modules that a plan changes: `Effects`, say."""

    def replacements(self, choices: Mapping[str, str]) -> dict[str, Callable[[Tensor], Tensor]]:
        """Names of these modules, and what they compute instead; units that are not named keep."""
        ...


@dataclass(frozen=True)
class Sensitivities:
    """What every option alone does to the network's output on calibration data.

    Attributes:
        features: ``(options, images * classes)`` float32: S^(1/2) d / sqrt(N), so that K = features features^T; N
            counts images, or tokens where each has logits. Of many classes it holds fewer random projections.
        kl: ``(options,)`` measured KL divergence (nats) of each option alone.
        linear: ``(options,)`` first-order term; zeros around the original.
        measured: ``(options,)`` whether the option was run (or is the incumbent's).
        constant: KL of the incumbent around which the changes were measured; 0 around the original.
        seconds: wall time of the measurement.
        full_pass: seconds of one pass of the whole network over the calibration data, without recording.
        runs: how many options were run.
    """

    features: npt.NDArray[np.float32]
    kl: Floats
    linear: Floats
    measured: npt.NDArray[np.bool_]
    constant: float
    seconds: float
    full_pass: float
    runs: int

    def energy(self, space: Space, alpha: float = 1.0, exact_diagonal: bool = True) -> Energy:
        """The quadratic energy over all options of a space.

        Args:
            space: the space that was measured.
            alpha: how much of the cross-unit part is believed, in [0, 1]; alpha K + (1 - alpha) blockdiag(K) stays
                positive semi-definite.
            exact_diagonal: scale each option's features so that its own energy is its measured KL (around the
                original only).
        """
        features = self.features.astype(np.float64)
        if exact_diagonal and not self.linear.any():
            own = 0.5 * np.square(features).sum(axis=1)
            scale = np.sqrt(np.divide(self.kl, own, out=np.ones_like(own), where=own > 1e-15))
            features = features * np.clip(scale, 0.2, 5.0)[:, None]
        K = features @ features.T
        within = np.zeros_like(K, dtype=bool)
        offsets = np.concatenate([[0], np.cumsum(space.sizes)])
        for a, b in itertools.pairwise(offsets):
            within[a:b, a:b] = True
        K = np.where(within, K, alpha * K)
        return Energy((K + K.T) / 2, self.linear.copy(), self.constant)


@dataclass
class _Sums:
    """What is summed over the parts of the data; an option's place in it is ``offsets[unit]`` and its own."""

    offsets: npt.NDArray[np.int64]
    rows: int
    few: int
    features: list[list[Tensor]]
    kl: Floats
    linear: Floats
    constant: float = 0.0
    full_pass: float = 0.0
    runs: int = field(default=0)


def sensitivities(
    model: nn.Module,
    space: Space,
    effects: Replacing,
    inputs: Sequence[Tensor],
    *,
    incumbent: Mapping[str, str] | None = None,
    radius: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Sensitivities:
    """Measure every option's change of the logits, around the original or around an incumbent plan.

    Args:
        model: the original network (the teacher).
        space: its space.
        effects: the effects of its options.
        inputs: calibration inputs, each ``(images, ...)``.
        incumbent: choices around which changes are measured; None is the original.
        radius: options further than this many steps from the incumbent's are not run (the trust region: they are not
            ``measured``); None runs all.
        progress: called with (runs done, runs in all).

    Raises:
        TaskError: if the model's outputs are not finite.
    """
    start = time.perf_counter()
    given = dict(incumbent or {})
    base = _indices(space, given)
    offsets = np.concatenate([[0], np.cumsum(space.sizes)]).astype(int)
    wanted = [
        (u, o)
        for u, unit in enumerate(space.units)
        for o in range(len(unit.options))
        if o != base[u] and (radius is None or abs(o - base[u]) <= radius)
    ]
    total = int(offsets[-1])
    with evaluating(model):
        one = logits_of(model(*[tensor[:1] for tensor in inputs]))
    rows, classes = len(one) * len(inputs[0]), one.shape[1]
    few = min(max(MOST_FEATURES // rows, 16), classes)
    sums = _Sums(offsets, rows, few, [[] for _ in range(total)], np.zeros(total), np.zeros(total))
    parts = list(_parts(model, inputs))
    effects.replacements(given)
    for done, part in enumerate(parts):
        _measure(model, space, effects, part, given, wanted, sums, progress, done, len(parts))
    width = max((sum(t.numel() for t in found) for found in sums.features), default=0)
    features = np.zeros((total, width), dtype=np.float32)
    for i, found in enumerate(sums.features):
        if found:
            features[i] = torch.cat([feature.ravel() for feature in found]).numpy()
    measured = np.zeros(total, dtype=bool)
    measured[[int(offsets[u]) + o for u, o in [*wanted, *enumerate(base)]]] = True
    seconds = time.perf_counter() - start
    return Sensitivities(features, sums.kl, sums.linear, measured, sums.constant, seconds, sums.full_pass, sums.runs)


def _measure(
    model: nn.Module,
    space: Space,
    effects: Replacing,
    inputs: Sequence[Tensor],
    given: dict[str, str],
    wanted: Sequence[tuple[int, int]],
    sums: _Sums,
    progress: Callable[[int, int], None] | None,
    part: int,
    parts: int,
) -> None:
    base = effects.replacements(given)
    with Suffix(model, inputs, base) as suffix:
        sums.full_pass += suffix.full_pass()
        around = suffix.logits.double()
        teacher = suffix.run({}).double() if base else around
        if not torch.isfinite(teacher).all():
            raise TaskError("the model's outputs on the calibration data are not finite (NaN or Inf)")
        log_p = teacher.log_softmax(dim=1)
        p = log_p.exp()
        log_q = around.log_softmax(dim=1)
        q = log_q.exp()
        projected = _projection(len(q), q.shape[1], sums.few, part)
        sums.constant += float((p * (log_p - log_q)).sum()) / sums.rows
        for done, (u, o) in enumerate(wanted):
            unit = space.units[u]
            choices = given | {unit.name: unit.options[o].label}
            logits = suffix.run(effects.replacements(choices)).double()
            i = int(sums.offsets[u]) + o
            if not torch.isfinite(logits).all():
                logger.warning("%s at %s gives outputs that are not finite", unit.name, unit.options[o].label)
                logits = torch.nan_to_num(logits, nan=0.0, posinf=1e4, neginf=-1e4)
            d = logits - around
            sums.kl[i] += float((p * (log_p - logits.log_softmax(dim=1))).sum()) / sums.rows
            if given:
                sums.linear[i] += float(((q - p) * d).sum()) / sums.rows
            root = q.sqrt() * (d - (q * d).sum(dim=1, keepdim=True))
            feature = (root / sums.rows**0.5).float()
            sums.features[i].append(projected(feature))
            sums.runs += part == 0
            if progress:
                progress(part * len(wanted) + done + 1, parts * len(wanted))


def _projection(rows: int, classes: int, few: int, part: int) -> Callable[[Tensor], Tensor]:
    """From ``(rows, classes)`` to ``(rows, few)``, keeping inner products in expectation.

    Every row has signs of its own: rows that an option changes alike must not all err alike.
    """
    if few == classes:
        return lambda feature: feature

    def signs(first: int, seed: int) -> Tensor:
        drawn = torch.randint(0, 2, (first, classes), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
        return 2 * drawn - 1

    own, common = signs(rows, part + 1), signs(few, 0).float() / few**0.5
    return lambda feature: (feature * own) @ common.T


def _parts(model: nn.Module, inputs: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """The inputs in as few parts as keep the recorded activations under the memory limit."""
    images = len(inputs[0])
    few = min(images, 4)
    with Suffix(model, [tensor[:few] for tensor in inputs]) as suffix:
        each = suffix.memory() / few
    count = max(1, -(-int(each * images) // MOST_BYTES))
    size = -(-images // count)
    for start in range(0, images, size):
        yield [tensor[start : start + size] for tensor in inputs]


def _indices(space: Space, choices: Mapping[str, str]) -> list[int]:
    return [unit.index(choices[unit.name]) if unit.name in choices else 0 for unit in space.units]
