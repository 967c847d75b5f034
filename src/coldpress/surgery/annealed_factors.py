"""A layer as a product of two small factors, annealed: for factors in few levels or with zeros, where no SVD is best.

Source of the idea: QIANets (Balapanov et al. 2024, arXiv:2410.10318), section 3, min ||W - W1 W2||_F^2 by LBFGS with a
step that falls. There it ends above the truncated SVD, which is the optimum; so here the SVD is where it starts, the
best so far is kept, and the field is what has no closed form: an int8, ternary or n:m sparse factor, weights of single
entries. A round turns the basis between the factors at random, lets LBFGS settle them, drawn toward their forms, and
brings them into these; then each factor in turn takes its best value, or levels, about the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from coldpress.errors import SurgeryError
from coldpress.surgery.factor_errors import ElementError, FactorError, OutputError
from coldpress.surgery.factor_forms import FactorForm, Formed, formed, improved

ROUNDS = 8
HOTTEST, COLDEST = 2.0, 0.1
"""Noise in the turn of the first and the last round, beside the identity. The step of LBFGS falls alike, from 1."""
STEPS = 20
"""Iterations of LBFGS in a round."""
TURNS = 30
"""How often each factor is improved about the other, at most; least gain at which it goes on."""
GAIN = 1e-3
BALANCES = (0.0, 0.5, 1.0)
"""How much of the singular values the left factor takes: starts, of which the best is taken."""


@dataclass(frozen=True, eq=False)
class AnnealedFactors:
    """Two factors and what they miss.

    Attributes:
        left: ``(rows, rank)``.
        right: ``(rank, columns)``, which reads the inputs.
        error: of their product.
        start: the SVD's left and right factor, each brought into its form in one pass (GPTQ, SparseGPT).
        start_error: of the start's product.
        float_error: of the SVD's factors as floats; without element weights the least of any floats of the rank.
        history: the best error so far, after the start's descent and after each round; it never rises.
    """

    left: Formed
    right: Formed
    error: float
    start: tuple[Formed, Formed]
    start_error: float
    float_error: float
    history: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class _Pair:
    left: Formed
    right: Formed
    error: float


def annealed_factors(
    weight: Tensor,
    rank: int,
    *,
    hessian: Tensor | None = None,
    elements: Tensor | None = None,
    left: str = "float",
    right: str = "float",
    rounds: int = ROUNDS,
    seed: int = 0,
) -> AnnealedFactors:
    """Factors of a weight in the forms that are asked for, never worse than the SVD's factors brought into them.

    Args:
        weight: ``(rows, columns)``; a convolution's is flattened, ``weight.flatten(1)``.
        rank: 1 to min(rows, columns).
        hessian: ``(columns, columns)``, X X^T of the layer's inputs, by which the output's error is minimised; None is
            the identity.
        elements: ``(rows, columns)``, weights of single entries' errors, none negative, in the place of a Hessian.
        left, right: forms, see `coldpress.surgery.factor_forms.FactorForm.named`.
        rounds: of annealing; 0 only descends from the start.
        seed: of the noise and the search.

    Raises:
        SurgeryError: shapes do not fit, a value is not finite or out of its range, or a form is unknown.

    Example:
        >>> w = torch.randn(8, 24, generator=torch.Generator().manual_seed(0))
        >>> found = annealed_factors(w, 4, right="ternary", rounds=2)
        >>> found.error < found.start_error, sorted(set(found.right.levels.ravel().tolist()))
        (True, [-1, 0, 1])
    """
    measure = _measure(weight, rank, hessian, elements)
    forms = FactorForm.named(left), FactorForm.named(right)
    for form, size in zip(forms, (rank, measure.weight.shape[1])):
        if form.pattern and form.pattern[1] > size:
            n, m = form.pattern
            raise SurgeryError(f"a factor cannot be {n}:{m} sparse: its rows have {size} weights")
    floats = measure.start(rank)
    float_error = float(measure.of(*floats))
    begun = _begun(measure, floats, forms)
    best = _descended(measure, begun, forms, (0.0, 0.0), seed)
    history = [best.error]
    generator = torch.Generator().manual_seed(seed)
    for heat in np.geomspace(HOTTEST, COLDEST, rounds).tolist() if rounds else []:
        shaken = _shaken(measure, floats, best, forms, heat, generator)
        found = _descended(measure, shaken, forms, (heat, 0.0), seed)
        best = found if found.error < best.error else best
        history.append(best.error)
    start = begun.left, begun.right
    return AnnealedFactors(best.left, best.right, best.error, start, begun.error, float_error, tuple(history))


def _begun(measure: FactorError, floats: tuple[Tensor, Tensor], forms: tuple[FactorForm, FactorForm]) -> _Pair:
    """The SVD's factors in their forms, of the best balance."""
    strength = floats[1].square().mean(dim=1).sqrt().clamp_min(1e-30)
    pairs = []
    for power in BALANCES:
        left, right = floats[0] * strength**power, floats[1] / strength[:, None] ** power
        second = formed(right, measure.row_hessians(left), forms[1])
        first = formed(left, measure.best_left(second.value)[1], forms[0])
        pairs.append(_Pair(first, second, float(measure.of(first.value, second.value))))
    return min(pairs, key=lambda pair: pair.error)


def _descended(
    measure: FactorError, pair: _Pair, forms: tuple[FactorForm, FactorForm], heats: tuple[float, ...], seed: int
) -> _Pair:
    """Each factor improved about the other until that gains little; never worse than the pair."""
    for turn in range(TURNS):
        sweeps = heats if turn == 0 else (0.0,)
        right = _right(measure, pair, forms[1], sweeps, seed + turn)
        target, hessians = measure.best_left(right.value)
        left = improved(pair.left, target, hessians, forms[0], sweeps, seed + turn)
        found = _Pair(left, right, float(measure.of(left.value, right.value)))
        if not found.error < pair.error:
            break
        gain, pair = 1.0 - found.error / pair.error, found
        if gain < GAIN:
            break
    return pair


def _right(measure: FactorError, pair: _Pair, form: FactorForm, heats: tuple[float, ...], seed: int) -> Formed:
    """The right factor improved about the left one: at once where it is floats, else row after row."""
    left = pair.left.value
    if form.free:
        return Formed(measure.best_right(left))
    hessians = measure.row_hessians(left)
    value = pair.right.value.clone()
    levels = None if pair.right.levels is None else pair.right.levels.clone()
    scales = None if pair.right.scales is None else pair.right.scales.clone()
    for k in range(len(value)):
        own = slice(k, k + 1)
        given = Formed(value[own], None if levels is None else levels[own], None if scales is None else scales[own])
        target = measure.best_row(left, value, k)[None]
        row = improved(given, target, hessians[k : k + 1] if len(hessians) > 1 else hessians, form, heats, seed + k)
        value[own] = row.value
        if levels is not None and row.levels is not None:
            levels[own] = row.levels
        if scales is not None and row.scales is not None:
            scales[own] = row.scales
    return Formed(value, levels, scales)


def _shaken(
    measure: FactorError,
    floats: tuple[Tensor, Tensor],
    pair: _Pair,
    forms: tuple[FactorForm, FactorForm],
    heat: float,
    generator: torch.Generator,
) -> _Pair:
    """Factors in their forms: the SVD's in a basis like the pair's, turned at random, and settled by LBFGS.

    A product stays what it is when a basis M is put between its factors, A M^-1 and M B, and its forms fit some bases
    better than others. Turned are rows of one length, so that M stays far from singular.
    """
    right = pair.right.value @ torch.linalg.pinv(floats[1]) @ floats[1]
    right = right / right.square().mean(dim=1, keepdim=True).sqrt().clamp_min(1e-30)
    noise = torch.randn(len(right), len(right), generator=generator, dtype=right.dtype) / len(right) ** 0.5
    turn, upper = torch.linalg.qr(torch.eye(len(right), dtype=right.dtype) + heat * noise)
    right = (turn * upper.diagonal().sign()) @ right  # the identity where there is no heat
    left = measure.best_left(right)[0]
    near = _in_form(measure, left, right, forms)
    return _in_form(measure, *_settled(measure, near, (left, right), forms, heat), forms)


def _in_form(measure: FactorError, left: Tensor, right: Tensor, forms: tuple[FactorForm, FactorForm]) -> _Pair:
    """The right factor in its form in one pass, and then the best left one in its."""
    second = formed(right, measure.row_hessians(left), forms[1])
    target, hessians = measure.best_left(second.value)
    first = formed(target, hessians, forms[0])
    return _Pair(first, second, float(measure.of(first.value, second.value)))


def _settled(
    measure: FactorError,
    near: _Pair,
    floats: tuple[Tensor, Tensor],
    forms: tuple[FactorForm, FactorForm],
    heat: float,
) -> tuple[Tensor, Tensor]:
    """Floats after some steps of LBFGS down the error, drawn to a pair in its forms where they are not free."""
    factors = [factor.detach().clone(memory_format=torch.contiguous_format).requires_grad_(True) for factor in floats]
    anchors = [None if form.free else factor.value for form, factor in zip(forms, (near.left, near.right))]
    scale = near.error + 1e-30
    step = max(heat / HOTTEST, 0.1)
    optimiser = torch.optim.LBFGS(factors, lr=step, max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = measure.of(factors[0], factors[1]) / scale
        for factor, anchor in zip(factors, anchors):
            if anchor is not None:
                loss = loss + (factor - anchor).square().sum() / anchor.square().sum().clamp_min(1e-30)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return factors[0].detach(), factors[1].detach()


def _measure(weight: Tensor, rank: int, hessian: Tensor | None, elements: Tensor | None) -> FactorError:
    """The error to be minimised; raises SurgeryError for what cannot be factorised."""
    weight = weight.detach().cpu().double()
    if weight.dim() != 2 or 0 in weight.shape:
        raise SurgeryError(f"weight is {tuple(weight.shape)}; it must be (rows, columns): flatten a convolution's")
    if rank not in range(1, min(weight.shape) + 1):
        raise SurgeryError(f"rank is {rank!r}; of a weight {tuple(weight.shape)} it is 1 to {min(weight.shape)}")
    if hessian is not None and elements is not None:
        raise SurgeryError("hessian and elements are two measures of one error; give one of them")
    columns = weight.shape[1]
    given = hessian if elements is None else elements
    given = torch.eye(columns) if given is None else given
    given = given.detach().cpu().double()
    name, shape = ("hessian", (columns, columns)) if elements is None else ("elements", tuple(weight.shape))
    if given.shape != shape:
        raise SurgeryError(f"{name} is {tuple(given.shape)}; for this weight it must be {shape}")
    for what, tensor in (("weight", weight), (name, given)):
        if not bool(tensor.isfinite().all()):
            raise SurgeryError(f"{what} holds NaN or Inf; look at the model and its calibration data")
    if elements is not None:
        if float(given.min()) < 0.0 or float(given.max()) == 0.0:
            raise SurgeryError("elements must be 0 or more, and not all 0: they weigh squared errors")
        return ElementError(weight, given)
    scale = float(given.abs().max())
    if float((given - given.T).abs().max()) > 1e-4 * scale or float(given.diagonal().min()) < -1e-6 * scale:
        raise SurgeryError("hessian is not a matrix X X^T: it must be symmetric, with no negative diagonal")
    return OutputError(weight, 0.5 * (given + given.T))
