"""The layer that stands where a factorised one was."""

from __future__ import annotations

from torch import Tensor, nn


class Factorized(nn.Sequential):
    """A layer carried out as two or three layers, one after the other; only the last has a bias."""

    @property
    def biased(self) -> nn.Module:
        """The module that holds the bias of the whole."""
        return self[-1]

    def weights(self) -> list[Tensor]:
        """The parts' weights as convolutions ``(out, in, height, width)``, float64."""
        found = [part.get_parameter("weight").detach().double() for part in self]
        return [weight[:, :, None, None] if weight.dim() == 2 else weight for weight in found]

    def fill(self, factors: list[Tensor]) -> None:
        """Put in weights and, last, the bias, as `coldpress.surgery.factorize.factor_weights` returns them."""
        *parts, bias = factors
        for layer, part in zip(self, parts):
            target = layer.get_parameter("weight")
            target.data.copy_(part.reshape(target.shape))
        if self.biased.bias is None:
            self.biased.bias = nn.Parameter(bias.new_zeros(len(bias)).float())
        self.biased.get_parameter("bias").data.copy_(bias)
