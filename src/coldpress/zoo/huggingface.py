"""Text models of Hugging Face, by name or from a folder (extra ``coldpress[hf]``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldpress.errors import TaskError
from coldpress.network import evaluating, replace_module
from coldpress.zoo import encoding, hub

DECODERS = ("ForCausalLM", "LMHeadModel")
TRIED = 4
"""Tokens on which a decoder is tried."""


class TextModel(nn.Module):
    """A transformers model that takes its inputs one by one and returns its logits.

    They are ``(batch, classes)`` of a classifier, ``(batch, tokens, vocabulary)`` of a decoder.

    Attributes:
        model: the transformers model.
        input_names: of its inputs, in the order of ``forward``.
        missing: parameters that the folder brings no weights for.
    """

    missing: tuple[str, ...] = ()

    input_names = ("input_ids", "attention_mask", "token_type_ids")

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        config: Any = getattr(model, "config", None)
        if config is not None:
            config.use_cache = False  # texts are read whole; nothing is generated

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits
        return logits


def network(name: str, num_classes: int | None = None, next_token: bool | None = None) -> nn.Module:
    """A sequence classifier or a decoder in fp32, its attention by ``scaled_dot_product_attention`` where it can.

    A classifier whose configuration names no token that fills texts up takes that of `encoding.padding`.

    Args:
        name: a folder with config.json and safetensors (without these its weights are random), or a name on the hub.
        num_classes: outputs, for models without a head of their own.
        next_token: whether it is to predict the next token; None: what its configuration says.

    Raises:
        TaskError: transformers is not installed, there is no such model, or it is to predict tokens that it sees.
    """
    transformers = hub.library("transformers", f"hf:{name}")
    transformers.utils.logging.disable_progress_bar()
    more: dict[str, Any] = {} if num_classes is None else {"num_labels": num_classes}
    config = hub.configuration(name, **more)
    _check_config(name, config)
    if next_token is None:
        next_token = any(kind.endswith(DECODERS) for kind in config.architectures or ())
    kind = transformers.AutoModelForCausalLM if next_token else transformers.AutoModelForSequenceClassification

    def load(attention: str) -> tuple[Any, tuple[str, ...]]:
        how = {"attn_implementation": attention, "trust_remote_code": False}
        if not has_weights(name):
            return kind.from_config(config, **how), ()
        given = {} if next_token else more
        place = hub.place(name)
        model, told = kind.from_pretrained(place, use_safetensors=True, output_loading_info=True, **how, **given)
        return model, tuple(sorted(told["missing_keys"]))

    try:
        model, missing = _by_attention(load)
    except (OSError, ValueError, RuntimeError) as error:  # a NotImplementedError is a RuntimeError
        words = "decoder" if next_token else "sequence classifier"
        raise TaskError(f"hf:{name} cannot be loaded as a {words}: {hub.first_line(error)}") from error
    if not next_token and not encoding.in_vocabulary(getattr(model.config, "pad_token_id", None), model.config):
        model.config.pad_token_id = encoding.padding(model.config, encoding.tokenizer(name))
    model = model.float()
    as_linears(model)
    found = TextModel(model).eval()
    found.missing = missing
    if next_token and not is_causal(found):
        raise TaskError(
            f"hf:{name} is an encoder ({config.model_type}), which sees the tokens that it is to predict: give a "
            "decoder, of GPT-2's or Llama's kind say, or set is_decoder in its config.json if it was trained as one"
        )
    return found


def _by_attention(load: Callable[[str], tuple[Any, tuple[str, ...]]]) -> tuple[Any, tuple[str, ...]]:
    """What ``load`` makes with the attention that is exported as one operator, else with the model's own."""
    try:
        return load("sdpa")
    except ValueError as error:
        if "scaled_dot_product_attention" not in str(error):
            raise
    return load("eager")


def is_causal(model: TextModel) -> bool:
    """Whether a decoder's logits of a token are the same whatever follows it, tried on one text."""
    rows = vocabulary(model)
    if rows is None:
        return True
    ids = torch.arange(TRIED)[None] % rows
    other = torch.cat([ids[:, :-1], (ids[:, -1:] + rows // 2) % rows], 1)
    with evaluating(model):
        first, second = (model(text, torch.ones_like(text))[:, :-1] for text in (ids, other))
    return torch.allclose(first, second, rtol=0, atol=1e-5 * float(first.abs().max()), equal_nan=True)


def vocabulary(model: nn.Module) -> int | None:
    """How many tokens a text model knows; None where it has no table of them."""
    inner: Any = getattr(model, "model", None)
    try:
        return int(inner.get_input_embeddings().num_embeddings)
    except (AttributeError, NotImplementedError):
        return None


def _check_config(name: str, config: Any) -> None:
    """Raise TaskError for models that are neither classifiers with one class a text nor decoders."""
    if getattr(config, "is_encoder_decoder", False):
        raise TaskError(
            f"hf:{name} is a sequence-to-sequence model ({config.model_type}); an encoder or a decoder is needed"
        )
    if getattr(config, "problem_type", None) not in (None, "single_label_classification"):
        raise TaskError(f"hf:{name} is made for {config.problem_type}; a classifier with one class a text is needed")


def has_weights(name: str) -> bool:
    """Whether a model brings weights: all do but a folder that holds none."""
    folder = Path(name).expanduser()
    return not folder.is_dir() or any(file.suffix in (".safetensors", ".bin") for file in folder.iterdir())


def as_linears(model: nn.Module) -> None:
    """Make linear layers, in place, of GPT-2's "Conv1D", which is one with its weight transposed."""
    for name, module in list(model.named_modules()):
        if type(module).__name__ == "Conv1D":
            weight = module.get_parameter("weight")
            linear = nn.Linear(*weight.shape)
            linear.weight = nn.Parameter(weight.detach().T.contiguous())
            linear.bias = nn.Parameter(module.get_parameter("bias").detach())
            replace_module(model, name, linear)
