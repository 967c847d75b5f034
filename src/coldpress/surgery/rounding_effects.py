"""What rounding a layer's weights to few bits does, at full size: the function that the layer computes then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor

import torch
from torch import Tensor, nn

from coldpress.executors import mapped
from coldpress.plan import KEEP, Option, Space, Unit
from coldpress.surgery.effects import Changed
from coldpress.surgery.group_moments import collect_group_moments
from coldpress.surgery.moments import Moments, collect_moments, columns, groups_of
from coldpress.surgery.refit import dense_weight
from coldpress.surgery.round_groups import Doubles, Form, Search, round_groups, with_bias
from coldpress.surgery.round_weights import Rounded

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
        executor: maps over the layers and their forms; by default one after the other, each on all cores.
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
        total = sum(len(own) for own in forms.values())
        for names in _parts(model, forms):
            moments = _moments(model, names, inputs, seed)
            each = [(name, form) for name in names for form in forms[name]]
            jobs = (
                (dense_weight(model.get_submodule(name)).numpy(), moments[name].matrix.numpy(), form, seed)
                for name, form in each
            )
            for (name, form), found in zip(each, mapped(executor, _rounded, jobs)):
                self._layers[name, form.label] = _layer(model, name, form, found.dequantized, moments[name].matrix)
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
        module = model.get_submodule(name)
        size = 12 * groups_of(module) * (columns(module) + 1) ** 2  # summed in single precision, then in double
        if part and held + size > MOST_BYTES:
            yield part
            part, held = [], 0
        part.append(name)
        held += size
    if part:
        yield part


def _moments(model: nn.Module, names: Sequence[str], inputs: Sequence[Tensor], seed: int) -> dict[str, Moments]:
    grouped = [name for name in names if groups_of(model.get_submodule(name)) > 1]
    whole = [name for name in names if name not in grouped]
    found = collect_moments(model, whole, inputs, seed=seed) if whole else {}
    return found | collect_group_moments(model, grouped, inputs, seed=seed)


def _rounded(dense: Doubles, moments: Doubles, form: Form, seed: int) -> Rounded:
    settings = Search(sweeps=SWEEPS, seed=seed)
    return round_groups(torch.from_numpy(dense), torch.from_numpy(moments), form, settings)


def _layer(model: nn.Module, name: str, form: Form, value: Tensor, moments: Tensor) -> Changed:
    module = model.get_submodule(name)
    weight, dense = module.get_parameter("weight"), with_bias(dense_weight(module), value, moments)
    key = (name, form.label)
    return Changed(key, module, value.to(weight.dtype).reshape(weight.shape), dense[:, -1].to(weight.dtype), False)
