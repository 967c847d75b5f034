"""What a plan does to each layer, at full size: the function that the layer computes under its options.

A channel that is gone is a column of zeros, a token whose row is gone reads the nearest that stays, a factorisation is
the dense product of its factors, int8 is rounded weights and inputs (dynamic: the inputs of each run over their own
range), a dropped block is the identity, or is not read where its channels would be concatenated, a dropped sub-layer
its mean output. Energies are measured with these effects; surgery carries the same weights out physically.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from coldpress.layer_shape import LayerShape
from coldpress.plan import Site, Space
from coldpress.surgery.factorize import effective_weight, factor_table, factor_weights
from coldpress.surgery.leastsquares import Consumer, elimination_order, refit_columns
from coldpress.surgery.moments import Moments
from coldpress.surgery.refit import constant_weight, dense_weight
from coldpress.surgery.rounding import round_activation, round_in_runs, round_table, round_weight
from coldpress.surgery.shared_rows import nearest_rows

Kept = dict[str, tuple[int, ...]]


class Effects:
    """The effects of any plan of a space on a model, each layer's weights computed once for each configuration.

    Args:
        model: the original network.
        space: its space.
        moments: second moments of its layers' inputs (``collect_moments``); layers without get no re-fit.
        remember: bytes of weights that are kept for reuse.
        batch: samples in one run, where the network is served.

    Attributes:
        orders: width unit name to its channels, vocabulary unit name to the table's rows, first to go first.
    """

    def __init__(
        self,
        model: nn.Module,
        space: Space,
        moments: Mapping[str, Moments],
        remember: int = 2_000_000_000,
        batch: int = 1,
    ) -> None:
        self.model, self.space, self.moments, self.remember, self.batch = model, space, moments, remember, batch
        self.orders: dict[str, list[int]] = {}
        self._weights: dict[tuple[Any, ...], Tensor] = {}
        self._rows: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self._held = 0

    def order(self, unit: str) -> list[int]:
        """The channels of a width unit in the order in which they go (channel-level OBS).

        Of a vocabulary unit the rows: where none was given (`coldpress.vocabulary.rarest_first`), the last first.
        """
        if unit not in self.orders and self.space.unit(unit).kind == "vocabulary":
            rows = self.space.unit(unit).options[0].channels or 0
            self.orders[unit] = list(range(rows - 1, -1, -1))
        if unit not in self.orders:
            group = self.space.groups[unit]
            consumers = []
            for member in group.of_role("in"):
                module = self.model.get_submodule(member.module)
                columns = torch.from_numpy(_unfolded(module, member.index))
                known = self.moments.get(member.module)
                consumers.append(Consumer(dense_weight(module), known.matrix if known else None, columns))
            self.orders[unit] = elimination_order(consumers, group.channels, group.atom)
        return self.orders[unit]

    def _split(self, unit: str, count: int) -> tuple[list[int], list[int]]:
        """The channels that go and those that stay where ``count`` do."""
        order = self.order(unit)
        return order[: len(order) - count], order[len(order) - count :]

    def kept(self, choices: Mapping[str, str]) -> Kept:
        """The channels, or rows, that stay in every width or vocabulary unit that does not keep all."""
        found: Kept = {}
        for unit in self.space.units:
            option = unit.options[unit.index(choices[unit.name])] if unit.name in choices else unit.options[0]
            if option.channels is not None and option is not unit.options[0]:
                found[unit.name] = tuple(sorted(self._split(unit.name, option.channels)[1]))
        return found

    def replacements(self, choices: Mapping[str, str]) -> dict[str, Callable[[Tensor], Tensor]]:
        """The modules that a plan changes, by name, with what they compute instead.

        Args:
            choices: unit name to option label; units that are not named keep.
        """
        options = self.space.options(choices)
        changed = {i for i, unit in enumerate(self.space.units) if options[i] is not unit.options[0]}
        found: dict[str, Callable[[Tensor], Tensor]] = {}
        for block, absent in self.space.dropped(choices).items():
            if not absent:  # else those who read it do without
                found[block] = _identity
        for branch in self.space.constant(choices):
            found[branch.last] = self._constant(branch.last)
        for site in self.space.sites:
            sources = tuple(s.unit for s in site.sources if s.unit in changed) if site.shape.groups == 1 else ()
            touched = bool(sources) or site.rank in changed or site.bits in changed
            shape = site.configured(options)
            if not touched or shape is None:
                continue
            widths = tuple((self.space.units[u].name, options[u].channels or 0) for u in sources)
            out = site.output.unit if site.output and site.output.unit in changed else None
            rows = (self.space.units[out].name, options[out].channels or 0) if out is not None else None
            found[site.name] = self._forward(site, shape, widths, rows)
        return found

    def _constant(self, name: str) -> Changed:
        module = self.model.get_submodule(name)
        dtype = module.get_parameter("weight").dtype
        weight = constant_weight(self.model, name, self.moments).to(dtype)
        return Changed((name, "constant"), module, weight[:, :-1], weight[:, -1], False)

    def _forward(
        self, site: Site, shape: LayerShape, widths: tuple[tuple[str, int], ...], rows: tuple[str, int] | None
    ) -> Callable[[Tensor], Tensor]:
        module = self.model.get_submodule(site.name)
        if isinstance(module, nn.Embedding):
            return self._table(site.name, module, shape, next(iter(widths), None))
        key = self._key(site, shape, widths, rows)
        weight = self._weight(key, site, shape, widths, rows)
        matrix, bias = weight[:, :-1].reshape(module.get_parameter("weight").shape), weight[:, -1]
        if shape.bits == 8:
            matrix = round_weight(matrix)
        return Changed(key, module, matrix, bias, shape.bits == 8, self.batch if shape.dynamic else None)

    def _table(self, name: str, module: nn.Embedding, shape: LayerShape, width: tuple[str, int] | None) -> Changed:
        key = (name, width, (shape.method, shape.rank, shape.bits))
        kept, rows = (None, None) if width is None else self._shared_rows(module, *width)
        if key not in self._weights:
            whole, known = module.weight.detach(), self.moments.get(name)
            table = whole if kept is None else whole[kept]
            factored = shape.method != "dense" and shape.factors_pay
            if factored:
                stored, weight, bias = factor_table(table, known.matrix if known else None, shape.rank[0])
            else:
                stored = table
            stored = round_table(stored) if shape.bits == 8 else stored
            changed = self._remembered(key, (stored @ weight.T + bias if factored else stored).to(whole.dtype))
        else:
            changed = self._weights[key]
        return Changed(key, module, changed, changed.new_zeros(0), False, rows=rows)

    def _remembered(self, key: tuple[Any, ...], weight: Tensor) -> Tensor:
        """A changed weight, kept for the next time while there is room."""
        size = weight.numel() * weight.element_size()
        if self._held + size <= self.remember:
            self._weights[key] = weight
            self._held += size
        return weight

    def _shared_rows(self, module: nn.Embedding, unit: str, count: int) -> tuple[Tensor, Tensor]:
        """The rows that stay where ``count`` do, and of every token its row among them."""
        if (unit, count) not in self._rows:
            kept = torch.tensor(sorted(self._split(unit, count)[1]))
            self._rows[unit, count] = kept, nearest_rows(module.weight.detach(), kept)
        return self._rows[unit, count]

    @staticmethod
    def _key(
        site: Site, shape: LayerShape, widths: tuple[tuple[str, int], ...], rows: tuple[str, int] | None
    ) -> tuple[Any, ...]:
        factored = shape.method != "dense" and shape.factors_pay
        return site.name, widths, (shape.method, shape.rank, rows) if factored else None

    def _weight(
        self,
        key: tuple[Any, ...],
        site: Site,
        shape: LayerShape,
        widths: tuple[tuple[str, int], ...],
        rows: tuple[str, int] | None,
    ) -> Tensor:
        if key in self._weights:
            return self._weights[key]
        factored = key[-1] is not None
        module = self.model.get_submodule(site.name)
        weight = dense_weight(module)
        known = self.moments.get(site.name)
        kept = torch.arange(weight.shape[1] - 1)
        if widths:
            kept = self._kept_columns(site.name, module, widths)
            part = weight[:, torch.cat([kept, torch.tensor([-1])])]
            part = refit_columns(weight, known.matrix, kept, known.damping) if known else part
        else:
            part = weight
        if factored:
            inner = torch.cat([kept, torch.tensor([weight.shape[1] - 1])])
            matrix = known.matrix[inner][:, inner] if known else None
            # rows that go are no concern of the factors
            live = self._kept_rows(site.name, len(weight), rows)
            factors = factor_weights(part[live], matrix, shape.kernel, shape.method, shape.rank)
            part = torch.zeros_like(part).index_copy(0, live, effective_weight(factors, shape.method))
        result = torch.zeros(weight.shape, dtype=module.get_parameter("weight").dtype)
        result[:, kept], result[:, -1] = part[:, :-1].to(result.dtype), part[:, -1].to(result.dtype)
        return self._remembered(key, result)

    def _kept_rows(self, name: str, count: int, rows: tuple[str, int] | None) -> Tensor:
        if rows is None:
            return torch.arange(count)
        unit, channels = rows
        gone = np.array(self._split(unit, channels)[0], dtype=np.int64)
        lost = [m.index[gone].ravel() for m in self.space.groups[unit].of_role("out") if m.module == name]
        return torch.from_numpy(np.setdiff1d(np.arange(count), np.concatenate(lost)))

    def _kept_columns(self, name: str, module: nn.Module, widths: Iterable[tuple[str, int]]) -> Tensor:
        lost: list[np.ndarray[Any, np.dtype[np.int64]]] = []
        for unit, channels in widths:
            gone = np.array(self._split(unit, channels)[0], dtype=np.int64)
            lost += [m.index[gone].ravel() for m in self.space.groups[unit].of_role("in") if m.module == name]
        width = module.get_parameter("weight").shape[1]
        stay = np.setdiff1d(np.arange(width), np.concatenate(lost))
        return torch.from_numpy(_unfolded(module, stay[:, None]).ravel())


def _unfolded(module: nn.Module, index: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Columns of the unfolded weight for ``(channels, repeat)`` input channels: ``(channels, repeat * area)``."""
    area = module.get_parameter("weight")[0, 0].numel()
    columns = index[:, :, None] * area + np.arange(area)
    return columns.reshape(len(index), -1)


def _identity(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
    return tensor.clone()  # what follows may work in place, and the input belongs to others


@dataclass(frozen=True)
class Changed:
    """What a layer computes instead; equal to another where both come of the same options of the same layer.

    Attributes:
        key: names the layer and the options.
        module: the layer.
        weight: in its own form.
        bias: ``(outputs,)``.
        rounded: whether it runs in int8.
        batch: samples in one run, where each run has a range of its own; None where all have one.
        rows: of a table of embeddings: of every token its row in ``weight``; None where each has one of its own.
    """

    key: tuple[Any, ...]
    module: nn.Module = field(compare=False)
    weight: Tensor = field(compare=False)
    bias: Tensor = field(compare=False)
    rounded: bool
    batch: int | None = None
    rows: Tensor | None = field(default=None, compare=False)

    def __call__(self, tensor: Tensor) -> Tensor:
        """The layer's output."""
        if self.rounded:
            tensor = round_activation(tensor) if self.batch is None else round_in_runs(tensor, self.batch)
        if isinstance(self.module, nn.Embedding):
            return functional.embedding(tensor if self.rows is None else self.rows[tensor], self.weight)
        if isinstance(self.module, nn.Linear):
            return functional.linear(tensor, self.weight, self.bias)
        assert isinstance(self.module, nn.Conv2d)
        return self.module._conv_forward(tensor, self.weight, self.bias)
