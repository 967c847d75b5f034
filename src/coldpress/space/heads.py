"""How wide the heads of a network's attention are, seen in one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from coldpress.network import watch_functions


def head_sizes(model: nn.Module, example_inputs: Sequence[Tensor]) -> tuple[int, ...]:
    """Features of one head, for each size that occurs, smallest first; empty where nothing attends.

    Channels of queries, keys and values can only go by whole heads: what is left of a head would be scaled and
    compared otherwise.

    Args:
        model: the network; attention is seen where it calls ``scaled_dot_product_attention``.
        example_inputs: its inputs, each ``(batch, ...)``.
    """
    sizes: set[int] = set()

    def note(name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if name == "scaled_dot_product_attention":
            query = arguments[0] if arguments else named["query"]
            if query.dim() == 4 and query.shape[1] > 1:
                sizes.add(int(query.shape[-1]))

    watch_functions(model, [tensor[:2] for tensor in example_inputs], note)
    return tuple(sorted(sizes))
