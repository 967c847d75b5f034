"""Layers as two annealed factors, layer after layer in network order, each to the original's activations.

As of `coldpress.surgery.round_layers`, but that a layer's weight is a product of which a factor, or both, has few
levels. What is stored is smaller; a runtime that has no kernel for such factors runs them as floats.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from coldpress.errors import SurgeryError
from coldpress.layer_shape import LayerShape
from coldpress.network import replace_module
from coldpress.surgery.annealed_factors import ROUNDS, AnnealedFactors, annealed_factors
from coldpress.surgery.factor_forms import FactorForm, Formed
from coldpress.surgery.factorize import build_factors
from coldpress.surgery.moments import padding_of, unfolds
from coldpress.surgery.refit import dense_weight, refit, set_weight
from coldpress.surgery.round_groups import covariance, with_bias
from coldpress.surgery.round_weights import Rounded


@dataclass(frozen=True)
class FactorPair:
    """How a layer is stored as two.

    Attributes:
        rank: outputs of the first.
        left: form of the factor that gives the outputs, see `coldpress.surgery.factor_forms.FactorForm.named`; here
            zeros in a pattern need levels too ("int8 2:4").
        right: form of the one that reads the inputs.

    Raises:
        SurgeryError: no form is called so, it has zeros and no levels, or both are floats.
    """

    rank: int
    left: str = "float"
    right: str = "ternary"

    def __post_init__(self) -> None:
        for name in (self.left, self.right):
            form = FactorForm.named(name)
            if form.top is None and form.pattern is not None:
                raise SurgeryError(f"{name!r} without levels would be stored whole; give 'int8 {name}', say")
        if FactorForm.named(self.left).free and FactorForm.named(self.right).free:
            raise SurgeryError(
                "of two factors of floats the SVD is the best: one must have levels, ternary or int8 say"
            )

    @property
    def label(self) -> str:
        """In words, "rank 8, float x ternary" say."""
        return f"rank {self.rank}, {self.left} x {self.right}"

    def bytes(self, rows: int, columns: int) -> int:
        """Bytes of both factors, packed, at most.

        Args:
            rows, columns: of the layer's weight matrix.
        """
        left, right = FactorForm.named(self.left), FactorForm.named(self.right)
        return left.bytes(rows, self.rank) + right.bytes(self.rank, columns)

    def macs(self, rows: int, columns: int) -> int:
        """Multiplications of both for one position of the output; the layer itself takes rows times columns.

        Args:
            rows, columns: of the layer's weight matrix.
        """
        return self.rank * (rows + columns)

    def pays(self, rows: int, columns: int) -> bool:
        """Whether the factors are of less than full rank, as long as their patterns, and smaller than the floats.

        They must take fewer multiplications too: they run as floats, and would be slower than the layer.
        """
        patterns = (FactorForm.named(name).pattern or (1, 1) for name in (self.left, self.right))
        fits = all(pattern[1] <= size for pattern, size in zip(patterns, (self.rank, columns)))
        fits = fits and 1 <= self.rank < min(rows, columns) and self.macs(rows, columns) < rows * columns
        return fits and self.bytes(rows, columns) < 4 * rows * columns


def factor_layers(
    student: nn.Module,
    teacher: nn.Module,
    inputs: Sequence[Tensor],
    pairs: Mapping[str, FactorPair],
    *,
    rounds: int = ROUNDS,
    damping: float | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Rounded]:
    """Put two layers in the place of each that is named, in ``student``; all others are re-fitted and keep floats.

    Args:
        student: a copy of the teacher.
        teacher: the original.
        inputs: calibration inputs, each ``(images, ...)``; all run through the student at once.
        pairs: by layer: linears, and convolutions of one group that pad with zeros.
        rounds: of annealing, see `annealed_factors`.
        damping: of the least squares before (see `refit`); +inf factorises the weights as they are.
        seed: of the annealing, and of the positions looked at.
        progress: called with (layers done, layers in all).

    Returns:
        By the new layers' names (that of the old one with ".0", which reads the inputs, and ".1"), those that have
        levels; ``error`` and ``start_error`` are of the product.

    Raises:
        SurgeryError: a layer does not unfold, its factors would take as many bytes or multiplications, or their rank is
            full.
    """
    for name, pair in pairs.items():
        _check(name, teacher, pair)
    found: dict[str, AnnealedFactors] = {}

    def fitted(name: str, moments: Tensor) -> None:
        if name not in pairs:
            return
        module, pair = student.get_submodule(name), pairs[name]
        dense = dense_weight(module)
        own = annealed_factors(
            dense[:, :-1], pair.rank, hessian=covariance(moments), left=pair.left, right=pair.right, rounds=rounds,
            seed=seed,
        )  # fmt: skip
        found[name] = own
        set_weight(module, with_bias(dense, own.left.value @ own.right.value, moments))

    refit(
        student, teacher, inputs, outputs={}, factored={}, seed=seed, damping=damping, fitted=fitted, progress=progress
    )
    missing = [name for name in pairs if name not in found]
    if missing:
        raise SurgeryError(f"{missing[0]!r} is not called by the network, or has too many columns; leave it out")
    rounded: dict[str, Rounded] = {}
    for name, own in found.items():
        rounded |= _replaced(student, name, own)
    return rounded


def _check(name: str, model: nn.Module, pair: FactorPair) -> None:
    try:
        module = model.get_submodule(name)
    except AttributeError:
        raise SurgeryError(f"{name!r} is no layer of this network") from None
    if not unfolds(module):
        raise SurgeryError(
            f"{name!r} cannot become two factors: it is no linear layer, and no convolution of one group that pads "
            "with zeros; leave it out"
        )
    rows, columns = module.get_parameter("weight").flatten(1).shape
    if not pair.pays(rows, columns):
        raise SurgeryError(
            f"{name!r} is {rows} x {columns}, {4 * rows * columns} bytes and {rows * columns} multiplications; as "
            f"{pair.label} it would take {pair.bytes(rows, columns)} and {pair.macs(rows, columns)}, and its full rank "
            f"is {min(rows, columns)}: give a lower rank, or leave it out"
        )


def _replaced(model: nn.Module, name: str, found: AnnealedFactors) -> dict[str, Rounded]:
    """Put a layer's factors in its place; those with levels, by name."""
    module = model.get_submodule(name)
    weight, bias = module.get_parameter("weight"), module.get_parameter("bias")
    layers = build_factors(_shape(module, len(found.right.value)))
    parts = {f"{name}.0": found.right, f"{name}.1": found.left}
    rounded = {key: _rounded(part, found) for key, part in parts.items() if part.levels is not None}
    values = [rounded[key].dequantized if key in rounded else part.value for key, part in parts.items()]
    layers.fill([*values, bias.detach()])
    replace_module(model, name, layers.to(weight.device, weight.dtype).train(module.training))
    return rounded


def _shape(module: nn.Module, rank: int) -> LayerShape:
    """The factors' shapes; where the layer stands does not matter to them."""
    if isinstance(module, nn.Linear):
        return LayerShape("linear", module.in_features, module.out_features, method="svd", rank=(rank,))
    assert isinstance(module, nn.Conv2d)
    kernel, stride, dilation = (
        (int(pair[0]), int(pair[1])) for pair in (module.kernel_size, module.stride, module.dilation)
    )
    widths = module.in_channels, module.out_channels
    return LayerShape("conv", *widths, kernel, stride, padding_of(module), dilation, method="svd", rank=(rank,))


def _rounded(part: Formed, found: AnnealedFactors) -> Rounded:
    assert part.levels is not None
    assert part.scales is not None
    value = part.levels.float() * part.scales.float()  # as it is read back, to the bit
    levels, scales = part.levels.to(torch.int8), part.scales.float()
    return Rounded(levels, scales, value, found.error, found.start_error, levels.shape[1])
