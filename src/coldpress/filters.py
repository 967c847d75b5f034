"""Filters that go and bits that layers lose, as 0/1 variables: plain data, without torch.

A filter's variable p is 1 when it goes. A layer's variables q code the bits that it loses in binary: it is stored in
``most_bits - sum_k q_k steps_k`` bits, where the steps are 1, 2, 4, ... and the last is cut to what is left, so that
every number of bits from ``least_bits`` to ``most_bits`` has a code and none is below it. The published code is
``most_bits - sum_k q_k 2^k``, no step cut: 1 + 2, from 8 to 5 bits (1 + 2 + 4 would end at 1 bit, which no grid has).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coldpress.errors import SamplerError, SpaceError
from coldpress.plan import ChannelGroup

Ints = NDArray[np.int64]
Bits = NDArray[np.int8]
FEWEST, MOST = 2, 8
"""Bits that weights can be stored in: two levels and their zero, and a whole byte."""
LEAST_BITS = {"cut": FEWEST, "binary": 5}
"""By the name of a code, the fewest bits from 8 down: with "binary" all steps are whole powers of two, as published."""


@dataclass(frozen=True, eq=False)
class FilterLayer:
    """A layer whose weights are stored in few bits.

    Attributes:
        name: the module's.
        fan_in: weights of one filter.
        owner: ``(filters,)`` the variable p, by index, of which each filter is part; -1 where it cannot go.
    """

    name: str
    fan_in: int
    owner: Ints

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.fan_in * len(self.owner)


@dataclass(frozen=True, eq=False)
class FilterSpace:
    """All filters that can go, and all layers whose bits are chosen.

    Filters that can only go together (those of a residual stream, of depthwise convolutions and what feeds them, of a
    head) share one variable; those that cannot go at all have none.

    Attributes:
        layers: in the order of the network.
        groups: the channel groups whose channels go, each ``group.atom`` channels by one variable.
        most_bits: bits of a layer that loses none.
        least_bits: bits of a layer that loses all that it can.
        refused: filters that cannot go, with the reason.

    Raises:
        SpaceError: bits out of their range.
    """

    layers: tuple[FilterLayer, ...]
    groups: tuple[ChannelGroup, ...] = ()
    most_bits: int = MOST
    least_bits: int = FEWEST
    refused: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not FEWEST <= self.least_bits < self.most_bits <= MOST:
            raise SpaceError(
                f"least_bits is {self.least_bits} and most_bits {self.most_bits}; they must be "
                f"{FEWEST} <= least_bits < most_bits <= {MOST}"
            )

    @cached_property
    def filters(self) -> tuple[tuple[int, int], ...]:
        """Group and place in it (of ``atom`` channels) of every p."""
        return tuple((g, a) for g, group in enumerate(self.groups) for a in range(group.channels // group.atom))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """Bits that each q of a layer takes away."""
        left = self.most_bits - self.least_bits
        found: list[int] = []
        while left > 0:
            found.append(min(1 << len(found), left))
            left -= found[-1]
        return tuple(found)

    @cached_property
    def codes(self) -> Bits:
        """All values of a layer's q, ``(2^steps, steps)``."""
        return np.array(list(itertools.product((0, 1), repeat=len(self.steps))), dtype=np.int8)

    @cached_property
    def plain(self) -> NDArray[np.bool_]:
        """Which of the codes `encode` gives, ``(2^steps,)``; the others stand for as many bits as one of these."""
        given = {tuple(self._code(removed)) for removed in range(self.most_bits - self.least_bits + 1)}
        return np.array([tuple(map(int, code)) in given for code in self.codes])

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """Names of all variables, x = vec(P, Q): ``layer:filter3``, groups by their first layer, and ``layer:bit0``."""
        filters = [f"{self.groups[g].name}:filter{a}" for g, a in self.filters]
        bits = [f"{layer.name}:bit{k}" for layer in self.layers for k in range(len(self.steps))]
        return (*filters, *bits)

    @cached_property
    def keep_one(self) -> tuple[tuple[str, ...], ...]:
        """Sets of variables p that must not all be 1, since some channel must remain."""
        sets: list[list[str]] = [[] for _ in self.groups]
        for (g, _), name in zip(self.filters, self.variables):
            sets[g].append(name)
        return tuple(map(tuple, sets))

    @property
    def weights(self) -> int:
        """Number of weights of all layers."""
        return sum(layer.weights for layer in self.layers)

    def bit(self, layer: int, k: int = 0) -> int:
        """Index of the variable q_k of a layer."""
        return len(self.filters) + layer * len(self.steps) + k

    def vector(self, sample: Mapping[str, Any]) -> Bits:
        """A sample as ``(variables,)``, 0 or 1.

        Raises:
            SamplerError: variables are missing or unknown, or a value is neither 0 nor 1.
        """
        wrong = set(map(str, sample)) ^ set(self.variables)
        if wrong:
            raise SamplerError(
                f"the sample's variables are not this network's: {len(wrong)} differ, {min(wrong)!r} for one"
            )
        values = np.array([sample[name] for name in self.variables])
        if not np.isin(values, (0, 1)).all():
            raise SamplerError("the sample holds values other than 0 and 1")
        return values.astype(np.int8)

    def sample(self, x: Any) -> dict[str, int]:
        """The names' values in a vector ``(variables,)``."""
        return {name: int(value) for name, value in zip(self.variables, x)}

    def encode(self, gone: Any, removed: Any) -> dict[str, int]:
        """The sample in which these filters go and layers lose these bits.

        Args:
            gone: ``(filters,)`` of 0 and 1.
            removed: ``(layers,)`` bits that each layer loses.
        """
        return self.sample([*gone, *(bit for lost in removed for bit in self._code(int(lost)))])

    def _code(self, removed: int) -> list[int]:
        """The code of bits lost that takes the last steps first."""
        code = []
        for step in reversed(self.steps):
            code.append(int(removed >= step))
            removed -= step * code[-1]
        return code[::-1]

    def removed(self, sample: Mapping[str, Any]) -> Ints:
        """Bits that each layer loses, ``(layers,)``."""
        x = self.vector(sample)[len(self.filters) :].reshape(len(self.layers), len(self.steps))
        return x.astype(np.int64) @ np.array(self.steps, dtype=np.int64)

    def bits(self, sample: Mapping[str, Any]) -> dict[str, int]:
        """Bits of each layer, by name."""
        return {layer.name: self.most_bits - int(r) for layer, r in zip(self.layers, self.removed(sample))}

    def kept(self, sample: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
        """Channels that stay, by group, for groups that lose some.

        Raises:
            SamplerError: nothing would stay of a group.
        """
        x = self.vector(sample)
        stay: list[list[int]] = [[] for _ in self.groups]
        for (g, a), gone in zip(self.filters, x):
            atom = self.groups[g].atom
            stay[g] += [] if gone else range(a * atom, (a + 1) * atom)
        for group, channels in zip(self.groups, stay):
            if not channels:
                raise SamplerError(f"all filters of {group.name!r} go in this sample; repair it first")
        pairs = zip(self.groups, stay)
        return {group.name: tuple(channels) for group, channels in pairs if len(channels) < group.channels}

    def reduction(self, sample: Mapping[str, Any]) -> float:
        """The fraction of all weights' bits that a sample saves, counting the filters' own weights alone."""
        x, left = self.vector(sample), 0
        for layer, bits in zip(self.layers, self.bits(sample).values()):
            stay = sum(1 for owner in layer.owner if owner < 0 or not x[owner])
            left += layer.fan_in * stay * bits
        return 1.0 - left / (self.most_bits * self.weights)
