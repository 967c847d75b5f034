"""How wide the heads of a network's attention are, seen in one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from coldpress.network import evaluating


class _Attention(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "scaled_dot_product_attention":
            query = args[0] if args else (kwargs or {})["query"]
            if query.dim() == 4 and query.shape[1] > 1:
                self.sizes.add(int(query.shape[-1]))
        return func(*args, **(kwargs or {}))


def head_sizes(model: nn.Module, example_inputs: Sequence[Tensor]) -> tuple[int, ...]:
    """Features of one head, for each size that occurs, smallest first; empty where nothing attends.

    Channels of queries, keys and values can only go by whole heads: what is left of a head would be scaled and
    compared otherwise.

    Args:
        model: the network; attention is seen where it calls ``scaled_dot_product_attention``.
        example_inputs: its inputs, each ``(batch, ...)``.
    """
    seen = _Attention()
    with evaluating(model), seen:
        model(*[tensor[:2] for tensor in example_inputs])
    return tuple(sorted(seen.sizes))
