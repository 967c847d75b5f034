"""Models, tokenizers and data sets of Hugging Face, by name or from a folder (extra ``coldpress[hf]``)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from coldpress.errors import TaskError
from coldpress.network import replace_module
from coldpress.tokens import TokenData
from coldpress.zoo import text, vision

PREFIX = "hf:"


GENERIC = "LABEL_"
"""Begins the names of classes that nobody named."""
PADDED_POSITIONS = ("roberta", "camembert", "mpnet")
"""Kinds of model whose positions begin behind that of the padding."""
TOKENIZER_FILES = ("tokenizer", "vocab", "spiece", "sentencepiece", "merges")
DECODERS = ("ForCausalLM", "LMHeadModel")


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
    """A sequence classifier, a decoder or an image classifier, in fp32, attending by ``scaled_dot_product_attention``.

    Args:
        name: a folder with config.json and safetensors (without these its weights are random), or a name on the hub.
        num_classes: outputs, for models without a head of their own.
        next_token: whether it is to predict the next token; None: what its configuration says.

    Raises:
        TaskError: transformers is not installed, or there is no such model.
    """
    transformers = _library("transformers", f"hf:{name}")
    transformers.utils.logging.disable_progress_bar()
    more: dict[str, Any] = {} if num_classes is None else {"num_labels": num_classes}
    words = "decoder" if next_token else "sequence classifier"
    missing: tuple[str, ...] = ()
    try:
        place = _place(name)
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False, **more)
        _check_config(name, config)
        images = vision.is_vision(transformers, config)
        if next_token is None:
            next_token = any(kind.endswith(DECODERS) for kind in config.architectures or ())
        words = "decoder" if next_token else "sequence classifier"
        kind = transformers.AutoModelForCausalLM if next_token else transformers.AutoModelForSequenceClassification
        how = {"attn_implementation": "sdpa", "trust_remote_code": False}
        if images:  # some of these do not attend
            words, kind, next_token = "image classifier", transformers.AutoModelForImageClassification, False
            how = {"trust_remote_code": False}
        if has_weights(name):
            given = {} if next_token else more
            model, told = kind.from_pretrained(place, use_safetensors=True, output_loading_info=True, **how, **given)
            missing = tuple(sorted(told["missing_keys"]))
        else:
            model = kind.from_config(config, **how)
    except (OSError, ValueError, RuntimeError) as error:
        raise TaskError(f"hf:{name} cannot be loaded as a {words}: {_first_line(error)}") from error
    model = model.float()
    as_linears(model)
    found = vision.ImageModel(model, vision.preprocessor(place)) if images else TextModel(model)
    found.missing = missing
    return found.eval()


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


def tokenizer(name: str) -> Any:
    """The tokenizer that belongs to a model; None for a folder without one. Raises TaskError when it is broken.

    It cuts texts off where the model knows no more positions, and its ``class_names`` are the model's, ``()`` where
    these have none.
    """
    transformers = _library("transformers", f"hf:{name}")
    folder = Path(_place(name))
    if folder.is_dir() and not any(file.name.startswith(TOKENIZER_FILES) for file in folder.iterdir()):
        return None
    try:
        config = transformers.AutoConfig.from_pretrained(_place(name), trust_remote_code=False)
        if vision.is_vision(transformers, config):
            return None
        found = transformers.AutoTokenizer.from_pretrained(_place(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise TaskError(f"hf:{name} has no tokenizer that can be loaded: {_first_line(error)}") from error
    positions = getattr(config, "max_position_embeddings", None)
    if positions:
        before = config.pad_token_id + 1 if any(kind in config.model_type for kind in PADDED_POSITIONS) else 0
        found.model_max_length = min(found.model_max_length, positions - before)
    found.class_names = _class_names(config)
    return found


def _class_names(config: Any) -> tuple[str, ...]:
    names = tuple(str(config.id2label[i]) for i in sorted(config.id2label or {}))
    return () if any(label.startswith(GENERIC) for label in names) else names


def image_form(name: str) -> vision.ImageForm | None:
    """How a model wants its images; None for one of texts.

    Raises:
        TaskError: there is no such model, or its images cannot be prepared.
    """
    transformers = _library("transformers", f"hf:{name}")
    place = _place(name)
    try:
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise TaskError(f"hf:{name} has no configuration that can be read: {_first_line(error)}") from error
    if not vision.is_vision(transformers, config):
        return None
    return vision.image_form(f"hf:{name}", config, vision.preprocessor(place), _class_names(config))


def data(name: str, encode: text.Encode, seed: int = 0) -> tuple[TokenData | None, TokenData | None, TokenData | None]:
    """Train, validation and test data of a data set on the hub, ``glue/sst2`` say, or in a folder that datasets reads.

    Parts without labels are left out.

    Raises:
        TaskError: datasets is not installed, or there is no such data set.
    """
    datasets = _library("datasets", f"hf:{name}")
    path, _, part = (name, "", "") if Path(name).is_dir() else name.partition("/")
    try:
        whole = datasets.load_dataset(path, part or None)
    except Exception as error:  # the library raises errors of many kinds where there is no network
        raise TaskError(f"the data set hf:{name} cannot be had: {_first_line(error)}") from error
    found: dict[str, TokenData | None] = dict.fromkeys(text.PARTS)
    classes: tuple[str, ...] | None = None
    for split, names in text.PARTS.items():
        rows = next((list(whole[key]) for key in names if key in whole), [])
        if rows and any(row.get("label", 0) != -1 for row in rows):
            found[split], classes = text.encoded(rows, encode, f"hf:{name}, {split}", classes)
    return text.completed(found["train"], found["validation"], found["test"], seed)


def _place(name: str) -> str:
    path = Path(name)
    if path.is_dir() and not (path / "config.json").is_file():
        raise TaskError(f"{path} holds no config.json; give a folder that save_pretrained wrote")
    if name.startswith((".", "/", "~")) and not path.expanduser().is_dir():
        raise TaskError(f"there is no folder {name}; give a folder that save_pretrained wrote, or a name on the hub")
    return str(path.expanduser()) if path.expanduser().is_dir() else name


def _library(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise TaskError(f"{name} needs {module}; install it with: pip install 'coldpress[hf]'") from error


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
