"""A compressed transformer in Hugging Face's own form, where its configuration can say what it has become."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldpress.network import evaluating, replace_module
from coldpress.surgery.structure import Dropped
from coldpress.zoo.huggingface import TextModel

logger = logging.getLogger("coldpress.zoo")

LAYERS = ("num_hidden_layers", "n_layers", "n_layer")
NEURONS = ("intermediate_size", "hidden_dim", "ffn_dim", "n_inner")
PRODUCERS = ("intermediate.dense", "lin1", "fc1", "up_proj", "ffn")


def save_pretrained(model: nn.Module, folder: Path, example_inputs: Sequence[Tensor]) -> bool:
    """Write what ``from_pretrained`` reads, if every layer has the same shape; whether it was written.

    Dropped blocks leave the list of layers, and the number of layers and of neurons is set in the configuration. A
    network whose layers differ, or that has factors, has no such form: then nothing is written.

    Args:
        model: the compressed classifier.
        folder: where to.
        example_inputs: on which the written network must give the same logits.
    """
    if not isinstance(model, TextModel):
        return False
    inner: Any = copy.deepcopy(model.model)
    config, fresh = inner.config, None
    for name, module in list(inner.named_modules()):
        if isinstance(module, nn.ModuleList) and any(isinstance(layer, Dropped) for layer in module):
            kept = nn.ModuleList(layer for layer in module if not isinstance(layer, Dropped))
            replace_module(inner, name, kept)
            _set(config, LAYERS, len(kept))
    widths = {m.out_features for n, m in inner.named_modules() if isinstance(m, nn.Linear) and n.endswith(PRODUCERS)}
    if len(widths) == 1:
        _set(config, NEURONS, widths.pop())
    try:
        fresh = type(inner)(config)
        fresh.load_state_dict(inner.state_dict())
    except (RuntimeError, ValueError, TypeError, ZeroDivisionError) as error:
        logger.info("this network has no form of its own in transformers: %s", str(error).splitlines()[0])
        return False
    with evaluating(model), evaluating(TextModel(fresh)) as again:
        if not torch.allclose(model(*example_inputs), again(*example_inputs), atol=1e-5):
            return False
    fresh.save_pretrained(folder)
    return True


def _set(config: Any, names: Sequence[str], value: int) -> None:
    for name in names:
        if getattr(config, name, None) is not None:
            setattr(config, name, value)
