"""Models of Hugging Face, of texts or images, by name or from a folder (extra ``coldpress[hf]``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldpress.errors import TaskError, first_line
from coldpress.network import evaluating, replace_module
from coldpress.zoo import encoding, hub, vision

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
    """A sequence classifier, a decoder or an image classifier, in fp32 and in eval mode.

    Those of texts attend by ``scaled_dot_product_attention`` where they can; one whose configuration names no token
    that fills texts up takes that of `encoding.padding`.

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
    images = vision.is_vision(transformers, config)
    if next_token is None:
        next_token = any(kind.endswith(DECODERS) for kind in config.architectures or ())
    if images:
        words, kind, next_token = "image classifier", transformers.AutoModelForImageClassification, False
    elif next_token:
        words, kind = "decoder", transformers.AutoModelForCausalLM
    else:
        words, kind = "sequence classifier", transformers.AutoModelForSequenceClassification

    def load(attention: str | None) -> tuple[Any, tuple[str, ...]]:
        how: dict[str, Any] = {"trust_remote_code": False}
        how |= {} if attention is None else {"attn_implementation": attention}
        if not has_weights(name):
            return kind.from_config(config, **how), ()
        how |= {} if next_token else more
        model, told = kind.from_pretrained(hub.place(name), use_safetensors=True, output_loading_info=True, **how)
        return model, tuple(sorted(told["missing_keys"]))

    try:
        model, missing = load(None) if images else _by_attention(load)  # some networks of images do not attend
    except (OSError, ValueError, RuntimeError) as error:  # a NotImplementedError is a RuntimeError
        raise TaskError(f"hf:{name} cannot be loaded as a {words}: {first_line(error)}") from error
    model = model.float()
    as_linears(model)
    if images:
        found: TextModel | vision.ImageModel = vision.ImageModel(model, vision.preprocessor(hub.place(name)))
    else:
        found = _of_texts(name, model, next_token)
    found.missing = missing
    return found.eval()


def _of_texts(name: str, model: Any, next_token: bool) -> TextModel:
    """A model of texts, able to be filled up. Raises TaskError for a decoder that sees what it is to predict."""
    config = model.config
    if not next_token and not encoding.in_vocabulary(getattr(config, "pad_token_id", None), config):
        config.pad_token_id = encoding.padding(config, encoding.tokenizer(name))
    found = TextModel(model)
    if next_token and not is_causal(found):
        raise TaskError(
            f"hf:{name} is an encoder ({config.model_type}), which sees the tokens that it is to predict: give a "
            "decoder, of GPT-2's or Llama's kind say, or set is_decoder in its config.json if it was trained as one"
        )
    return found


def image_form(name: str) -> vision.ImageForm | None:
    """How a model wants its images; None for one of texts.

    Raises:
        TaskError: there is no such model, or its images cannot be prepared.
    """
    transformers, config = hub.library("transformers", f"hf:{name}"), hub.configuration(name)
    if not vision.is_vision(transformers, config):
        return None
    given = vision.preprocessor(hub.place(name))
    return vision.image_form(f"hf:{name}", config, given, encoding.class_names(config))


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
