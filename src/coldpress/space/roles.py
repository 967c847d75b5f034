"""Heads and neurons of transformers by the names of their modules, where tracing does not find them.

Fused queries, keys and values, keys shared by several queries, and rotary positions are beyond the dependency graph.
What is found here is believed no more than what is traced: a group is only offered once removing its channels equals
masking them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import nn

from coldpress.plan import ChannelGroup, Member
from coldpress.surgery.structure import SCALED

ATTENTION = (
    (("q_proj", "k_proj", "v_proj"), ("o_proj", "out_proj")),
    (("q_lin", "k_lin", "v_lin"), ("out_lin",)),
    (("qkv",), ("proj",)),
    (("c_attn",), ("c_proj",)),
)
"""Producers (one: queries, keys and values behind each other), then the names that the layer which reads may have."""
NEURONS = (
    (("gate_proj", "up_proj"), ("down_proj",)),
    (("w1", "w3"), ("w2",)),
    (("fc1",), ("fc2",)),
    (("c_fc",), ("c_proj",)),
)


def role_groups(model: nn.Module) -> dict[str, ChannelGroup]:
    """The channel groups that module names promise, by the name of their first producer."""
    found: dict[str, ChannelGroup] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        for producers, consumer in _matching(module, NEURONS):
            rows = {len(getattr(module, producer).weight) for producer in producers}
            if rows == {getattr(module, consumer).in_features}:
                index = np.arange(rows.pop())[:, None]
                outs = [Member(prefix + producer, "out", index) for producer in producers]
                members = (*outs, Member(prefix + consumer, "in", index))
                found[prefix + producers[0]] = ChannelGroup(prefix + producers[0], len(index), 1, members)
        for producers, consumer in _matching(module, ATTENTION):
            attention = _heads(prefix, module, producers, consumer)
            if attention is not None:
                found[attention.name] = attention
    return found


def is_rotary(model: nn.Module) -> bool:
    """Whether positions are rotations, which no dependency graph follows."""
    return any("rotary" in type(module).__name__.lower() for module in model.modules())


def _matching(
    module: nn.Module, table: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    for producers, consumers in table:
        for consumer in consumers:
            if all(isinstance(getattr(module, name, None), nn.Linear) for name in (*producers, consumer)):
                yield producers, consumer


def _heads(prefix: str, module: nn.Module, producers: tuple[str, ...], consumer: str) -> ChannelGroup | None:
    """The heads of an attention module: a channel is one feature of the keys, with all that goes with it."""
    size = getattr(module, "head_dim", None)
    queries = int(getattr(module, consumer).in_features)
    if not isinstance(size, int) or size < 1 or queries % size:
        return None
    if len(producers) == 1:
        if len(getattr(module, producers[0]).weight) != 3 * queries:
            return None
        keys = queries
    else:
        keys = len(getattr(module, producers[1]).weight)
    if keys % size or queries % keys or keys == size:
        return None
    shared = queries // keys
    channel = np.arange(keys)
    head, feature = channel // size, channel % size
    wide = ((head[:, None] * shared + np.arange(shared)) * size + feature[:, None]).astype(np.int64)
    narrow = channel[:, None]
    if len(producers) == 1:
        rows = np.concatenate([narrow, narrow + keys, narrow + 2 * keys], axis=1)
        outs = [Member(prefix + producers[0], "out", rows)]
    else:
        outs = [Member(prefix + producer, "out", wide if i == 0 else narrow) for i, producer in enumerate(producers)]
        if any(int(m.index.max()) + 1 != len(getattr(module, p).weight) for m, p in zip(outs, producers)):
            return None
    counts = {queries // size, keys // size}
    scaled = [n for n in SCALED if getattr(module, n, None) in (counts if "head" in n else {queries})]
    members = (*outs, Member(prefix + consumer, "in", wide))
    owner = prefix.removesuffix(".")
    return ChannelGroup(prefix + producers[0], keys, size, members, tuple((owner, n) for n in scaled))
