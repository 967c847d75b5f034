"""The layer that stands where a factorised one was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import tensorly
from torch import Tensor, nn

_BACKEND = Lock()


@contextmanager
def pytorch_backend() -> Iterator[None]:
    """TensorLy works on tensors of PyTorch inside; its backend is one for all threads, which wait for each other."""
    with _BACKEND, tensorly.backend_context("pytorch"):
        yield


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
