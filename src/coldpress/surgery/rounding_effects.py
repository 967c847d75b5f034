"""What rounding a layer's weights to few bits does, at full size: the function that the layer computes then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from itertools import repeat

from torch import Tensor, nn

from coldpress.plan import KEEP, Option, Space, Unit
from coldpress.surgery.effects import Changed
from coldpress.surgery.moments import collect_moments, columns
from coldpress.surgery.refit import dense_weight
from coldpress.surgery.round_layers import Form, covariance
from coldpress.surgery.round_weights import round_weights

SWEEPS = 6
"""Of the search, for an option that is only being looked at."""
MOST_BYTES = 1_000_000_000
"""Of layers' Hessians held at once, where several layers' fit; with more layers the inputs run through again."""


class RoundingEffects:
    """The layers of a network at each of some forms, every one rounded once.

    Args:
        model: the network.
        forms: by layer, the forms that it may take; the most bytes first.
        inputs: calibration inputs, each ``(images, ...)``, for the Hessians of these layers.
        seed: of the search, and of the positions looked at.
        executor: maps over the forms of a layer; by default one after the other, each on all cores.
        progress: called with (rounded, in all).

    Attributes:
        space: a unit for each layer; its first option leaves the layer in floats.
    """

    def __init__(
        self,
        model: nn.Module,
        forms: Mapping[str, Sequence[Form]],
        inputs: Sequence[Tensor],
        seed: int = 0,
        executor: Executor | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.model = model
        self.forms = {name: {form.label: form for form in own} for name, own in forms.items()}
        self.space = Space(
            tuple(
                Unit(name, "bits", name, (Option(KEEP), *(Option(form.label, bits=form.bits) for form in own)))
                for name, own in forms.items()
            ),
            (),
        )
        self._layers: dict[tuple[str, str], Changed] = {}
        mapped = map if executor is None else executor.map
        total = sum(len(own) for own in forms.values())
        for names in _parts(model, forms):
            moments = collect_moments(model, names, inputs, seed=seed)
            for name in names:
                matrix = moments.pop(name).matrix
                weight, hessian = dense_weight(model.get_submodule(name))[:, :-1], covariance(matrix)
                values: Iterable[Tensor] = mapped(_rounded, repeat(weight), repeat(hessian), forms[name], repeat(seed))
                for form, value in zip(forms[name], values):
                    self._layers[name, form.label] = _layer(model, name, form, value, matrix)
                    if progress:
                        progress(len(self._layers), total)

    def replacements(self, choices: Mapping[str, str]) -> dict[str, Callable[[Tensor], Tensor]]:
        """The layers that are rounded, by name, with what they compute instead.

        Args:
            choices: layer to the label of its form; what is not named, or keeps, stays in floats.
        """
        return {name: self._layers[name, label] for name, label in choices.items() if label != KEEP}

    def chosen(self, choices: Mapping[str, str]) -> dict[str, Form]:
        """The form of every layer that is rounded."""
        return {name: self.forms[name][label] for name, label in choices.items() if label != KEEP}


def _parts(model: nn.Module, names: Iterable[str]) -> Iterator[list[str]]:
    """Layers in order, cut where the Hessians of a part would be too much to hold."""
    part: list[str] = []
    held = 0
    for name in names:
        size = 12 * (columns(model.get_submodule(name)) + 1) ** 2  # summed in single precision, then in double
        if part and held + size > MOST_BYTES:
            yield part
            part, held = [], 0
        part.append(name)
        held += size
    if part:
        yield part


def _rounded(weight: Tensor, hessian: Tensor, form: Form, seed: int) -> Tensor:
    found = round_weights(
        weight, hessian, form.bits, form.sparsity, sweeps=SWEEPS, seed=seed, group_size=form.group_size
    )
    return found.dequantized


def _layer(model: nn.Module, name: str, form: Form, value: Tensor, moments: Tensor) -> Changed:
    module = model.get_submodule(name)
    dense = dense_weight(module)
    bias = dense[:, -1] + (dense[:, :-1] - value.double()) @ (moments[:-1, -1] / moments[-1, -1])
    weight = module.get_parameter("weight")
    key = (name, form.label)
    return Changed(key, module, value.to(weight.dtype).reshape(weight.shape), bias.to(weight.dtype), False)
