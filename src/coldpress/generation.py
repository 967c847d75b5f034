"""A decoder as it generates: exported with the keys and values of the tokens before, so that each is read once."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from coldpress.errors import ExportError
from coldpress.network import evaluating
from coldpress.runtime.onnx import export
from coldpress.zoo.huggingface import TextModel

logger = logging.getLogger("coldpress.zoo")

FILE = "model.past.onnx"
READ = 6
"""Tokens of the example that are the past; some more are read after them."""


class WithPast(nn.Module):
    """A decoder that takes keys and values of the past, and returns its logits and all keys and values.

    Args:
        model: a decoder of transformers, or what is left of one: layers whose attention is gone keep nothing.

    Attributes:
        layers: places of the layers that keep keys and values.
    """

    def __init__(self, model: nn.Module, example_inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.model = model
        ids, mask = (tensor[:1, :READ] for tensor in example_inputs[:2])
        with evaluating(self):
            found = self._run(ids, mask, self._cache({})).layers
        self.layers = tuple(i for i, layer in enumerate(found) if isinstance(getattr(layer, "keys", None), Tensor))
        self._count = len(found)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """``past``: a key and a value for each of ``layers``, ``(batch, heads, past tokens, width)``."""
        pairs = {layer: (past[2 * i], past[2 * i + 1]) for i, layer in enumerate(self.layers)}
        cache = self._cache(pairs)
        logits = self._logits(input_ids, attention_mask, cache)
        present = [tensor for i in self.layers for tensor in (cache.layers[i].keys, cache.layers[i].values)]
        return (logits, *present)

    def present(self, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
        """The keys and values after reading some tokens from the start."""
        with evaluating(self):
            found = self._run(input_ids, attention_mask, self._cache({})).layers
        return [tensor for i in self.layers for tensor in (found[i].keys, found[i].values)]

    def whole(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits ``(batch, tokens, vocabulary)`` of texts read from the start."""
        return self._logits(input_ids, attention_mask, self._cache({}))

    def _run(self, ids: Tensor, mask: Tensor, cache: Any) -> Any:
        self._logits(ids, mask, cache)
        return cache

    def _logits(self, ids: Tensor, mask: Tensor, cache: Any) -> Tensor:
        call: Any = self.model
        logits: Tensor = call(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True).logits
        return logits

    @staticmethod
    def _cache(pairs: dict[int, tuple[Tensor, Tensor]]) -> Any:
        cache = importlib.import_module("transformers").DynamicCache()
        for layer, (key, value) in pairs.items():
            cache.update(key, value, layer)
        for layer in range(min(pairs, default=0)):  # the first is asked how long the past is
            cache.layers[layer] = cache.layers[min(pairs)]
        return cache


def export_with_past(model: nn.Module, example_inputs: Sequence[Tensor], path: Path) -> bool:
    """Write the file that generates token by token; whether it could be written (the log says why not).

    Its inputs are called ``input_ids``, ``attention_mask`` (of past and new tokens), ``past_key_values.0.key``, ...;
    its outputs ``logits``, ``present.0.key``, ... A past of no tokens is allowed: so a text is begun.

    Args:
        model: the (compressed) decoder; anything else has no such file.
        example_inputs: ids and mask, each ``(batch, tokens)``.
        path: the file to write.
    """
    if not isinstance(model, TextModel):
        return False
    ids, mask = (tensor[:2] for tensor in example_inputs[:2])
    if ids.shape[1] <= READ + 1:
        return False
    try:
        twin = WithPast(model.model, example_inputs)
        if not twin.layers:
            raise ExportError("no layer is left that attends")
        past = twin.present(ids[:, :READ], mask[:, :READ])
        _check(twin, ids, mask, past)
        names = [f"{i}.{part}" for i in twin.layers for part in ("key", "value")]
        export(
            twin,
            (ids[:, READ:].contiguous(), mask, *past),
            path,
            ["input_ids", "attention_mask", *(f"past_key_values.{name}" for name in names)],
            ["logits", *(f"present.{name}" for name in names)],
            free=[(1,), (1,), *[(2,)] * len(past)],
        )
    except (ExportError, TypeError, AttributeError, IndexError) as error:
        logger.warning("this decoder is exported without its past, so a text is read whole for each token: %s", error)
        return False
    return True


def _check(twin: WithPast, ids: Tensor, mask: Tensor, past: Sequence[Tensor]) -> None:
    """Raise ExportError where reading on from a past is not reading the whole."""
    with evaluating(twin):
        wanted = twin.whole(ids, mask)[:, READ:]
        found = twin(ids[:, READ:], mask, *past)[0]
    if float((found - wanted).abs().max()) > 1e-3 * float(wanted.abs().max()):
        raise ExportError("it does not read on from its past as it reads a whole text")
