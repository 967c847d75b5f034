"""A compressed transformer in Hugging Face's own form, where its configuration can say what it has become."""

from __future__ import annotations

import copy
import itertools
import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldpress.errors import first_line
from coldpress.network import evaluating, replace_module
from coldpress.surgery.structure import Dropped
from coldpress.zoo.huggingface import TextModel
from coldpress.zoo.vision import PREPROCESSOR, ImageModel

logger = logging.getLogger("coldpress.zoo")

LAYERS = ("num_hidden_layers", "n_layers", "n_layer")
OF_EACH_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")
NEURONS = ("intermediate_size", "hidden_dim", "ffn_dim", "n_inner")
PRODUCERS = ("intermediate.dense", "lin1", "fc1", "up_proj", "ffn", "c_fc")


def save_pretrained(model: nn.Module, folder: Path, example_inputs: Sequence[Tensor], tokenizer: Any = None) -> bool:
    """Write what ``from_pretrained`` reads, if every layer has the same shape; whether it was written.

    Dropped blocks leave the list of layers, and the number of layers and of neurons is set in the configuration. A
    network whose layers differ, or that has factors, has no such form: then nothing is written.

    Args:
        model: the compressed classifier.
        folder: where to; it is not there yet, and is not left half written.
        example_inputs: on which the written network must give the same logits.
        tokenizer: of the model; written beside it.
    """
    if not isinstance(model, TextModel | ImageModel):
        return False
    try:
        fresh = _of_own_form(model.model)
        with evaluating(model), evaluating(type(model)(fresh)) as again:
            if not torch.allclose(model(*example_inputs), again(*example_inputs), atol=1e-5):
                return False
    except Exception as error:  # a configuration may refuse, or the network fail, in as many ways as there are kinds
        logger.info("this network has no form of its own in transformers: %s", first_line(error))
        return False
    try:
        fresh.save_pretrained(folder)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        if isinstance(model, ImageModel) and model.preprocessor:
            (folder / PREPROCESSOR).write_text(json.dumps(model.preprocessor, indent=1))
    except Exception as error:  # it comes after the training, and a run is whole without it
        shutil.rmtree(folder, ignore_errors=True)
        logger.warning("%s is left out, as it cannot be written: %s", folder.name, first_line(error))
        return False
    return True


def _of_own_form(model: nn.Module) -> Any:
    """A new network of the class, with the weights, and of a configuration without dropped blocks."""
    inner: Any = copy.deepcopy(model)
    config = inner.config
    for name, module in list(inner.named_modules()):
        if isinstance(module, nn.ModuleList) and any(isinstance(layer, Dropped) for layer in module):
            stays = [not isinstance(layer, Dropped) for layer in module]
            replace_module(inner, name, nn.ModuleList(itertools.compress(module, stays)))
            _set(config, LAYERS, sum(stays))
            for key in OF_EACH_LAYER:
                told = getattr(config, key, None)
                if isinstance(told, list | tuple) and len(told) == len(stays):
                    setattr(config, key, list(itertools.compress(told, stays)))
    widths = {m.out_features for n, m in inner.named_modules() if isinstance(m, nn.Linear) and n.endswith(PRODUCERS)}
    if len(widths) == 1:
        _set(config, NEURONS, widths.pop())
    fresh = type(inner)(config)
    fresh.load_state_dict(_as_written(inner.state_dict(), fresh))
    return fresh


def _as_written(weights: dict[str, Tensor], fresh: nn.Module) -> dict[str, Tensor]:
    """Weights as a model has them whose "Conv1D" layers hold theirs transposed; see `huggingface.as_linears`."""
    names = [f"{name}.weight" for name, module in fresh.named_modules() if type(module).__name__ == "Conv1D"]
    return weights | {name: weights[name].T for name in names if name in weights}


def _set(config: Any, names: Sequence[str], value: int) -> None:
    for name in names:
        if hasattr(config, name):  # GPT-2's width is None where it is the usual one
            setattr(config, name, value)
