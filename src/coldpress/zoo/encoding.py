"""Tokenizers of Hugging Face: made to agree with their model, and what they make of texts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coldpress.errors import TaskError, first_line
from coldpress.zoo import hub, vision

logger = logging.getLogger("coldpress.zoo")

Encode = Callable[..., Mapping[str, Any]]

GENERIC = "LABEL_"
"""Begins the names of classes that nobody named."""
PADDED_POSITIONS = ("roberta", "camembert", "mpnet", "longformer")
"""Kinds of model whose positions begin behind that of the padding."""
TOKENIZER_FILES = ("tokenizer", "vocab", "spiece", "sentencepiece", "merges")
MOST_TOKENS = 512
"""Where texts are cut off if neither model nor tokenizer says."""
UNSAID = 10**9
"""A tokenizer's greatest length that is none."""
ROLES = ("pad", "bos", "eos", "cls", "sep", "mask")
MANY_UNKNOWN, MOSTLY_UNKNOWN = 0.1, 0.5


def tokenizer(name: str) -> Any:
    """The tokenizer that belongs to a model; None for a folder without one. Raises TaskError when it is broken.

    It cuts texts off where the model knows no more positions, fills them up with the model's own token, and its
    ``class_names`` are the model's, ``()`` where these have none.
    """
    transformers = hub.library("transformers", f"{hub.PREFIX}{name}")
    folder = Path(hub.place(name))
    if folder.is_dir() and not any(file.name.startswith(TOKENIZER_FILES) for file in folder.iterdir()):
        return None
    config = hub.configuration(name)
    if vision.is_vision(transformers, config):
        return None
    try:
        found = transformers.AutoTokenizer.from_pretrained(hub.place(name), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise TaskError(f"{hub.PREFIX}{name} has no tokenizer that can be loaded: {first_line(error)}") from error
    if (most := positions(config)) is not None:
        found.model_max_length = min(found.model_max_length, most)
    filling = padding(config, found)
    if found.pad_token_id != filling:
        known = filling is not None and filling in found.get_vocab().values()
        found.pad_token = found.convert_ids_to_tokens(filling) if known else None
    found.class_names = class_names(config)
    return found


def class_names(config: Any) -> tuple[str, ...]:
    """A model's names of its classes, ``()`` where nobody named them."""
    names = tuple(str(config.id2label[i]) for i in sorted(config.id2label or {}))
    return () if any(label.startswith(GENERIC) for label in names) else names


def positions(config: Any) -> int | None:
    """How many tokens a model has positions for; None where its configuration gives no number."""
    most = getattr(config, "max_position_embeddings", None)
    if not isinstance(most, int) or most <= 0:
        return None
    behind = any(kind in config.model_type for kind in PADDED_POSITIONS)
    return most - (config.pad_token_id + 1 if behind and config.pad_token_id is not None else 0)


def padding(config: Any, encode: Any) -> int | None:
    """The token that fills texts up: the configuration's, else the tokenizer's, else the one that ends a text.

    Numbers beyond the model's vocabulary do not count.
    """
    given = [
        getattr(config, "pad_token_id", None),
        getattr(encode, "pad_token_id", None),
        getattr(encode, "eos_token_id", None),
        getattr(config, "eos_token_id", None),
    ]
    return next((token for token in given if in_vocabulary(token, config)), None)


def in_vocabulary(token: Any, config: Any) -> bool:
    """Whether a token's number is one of a model's vocabulary."""
    return isinstance(token, int) and 0 <= token < (getattr(config, "vocab_size", None) or UNSAID)


def tokenized(columns: Sequence[Sequence[str]], encode: Encode, source: str) -> tuple[list[Tensor], list[Tensor]]:
    """The tokens of texts, and which of two texts each belongs to, ``(tokens,)`` each; of one text no such.

    Texts are cut off at the tokenizer's ``model_max_length``, 512 where it has none, with a warning.

    Args:
        columns: the texts; or the first texts and the second ones.
        encode: a tokenizer.
        source: where the texts come from, in words.

    Raises:
        TaskError: most tokens are unknown to the tokenizer.
    """
    most = int(getattr(encode, "model_max_length", UNSAID))
    most = most if most < UNSAID else MOST_TOKENS
    tokens = encode(*columns, truncation=True, max_length=most)
    ids = [torch.tensor(row, dtype=torch.int32) for row in tokens["input_ids"]]
    full = [i for i, row in enumerate(ids) if len(row) == most]
    whole = encode(*([column[i] for i in full] for column in columns), verbose=False)["input_ids"] if full else ()
    if cut := sum(len(row) > most for row in whole):
        logger.warning("%s: %d of %d texts are cut off after %d tokens", source, cut, len(ids), most)
    check_known(torch.cat(ids), encode, source)
    two = len(columns) > 1 and "token_type_ids" in tokens
    return ids, [torch.tensor(row, dtype=torch.int8) for row in tokens["token_type_ids"]] if two else []


def check_known(tokens: Tensor, encode: Any, source: str) -> None:
    """Warn where many of some tokens ``(tokens,)`` are unknown to their tokenizer. Raises TaskError where most are."""
    unknown = getattr(encode, "unk_token_id", None)
    others = [token for role in ROLES if (token := getattr(encode, f"{role}_token_id", None)) is not None]
    if unknown is None or unknown in others:  # GPT-2's ends texts too, and knows every byte
        return
    words = tokens[~torch.isin(tokens, torch.tensor(others, dtype=tokens.dtype))]
    share = float((words == unknown).float().mean()) if len(words) else 0.0
    told = f"{source}: {share:.0%} of the tokens are unknown to the tokenizer {getattr(encode, 'name_or_path', '')}"
    if share > MOSTLY_UNKNOWN:
        raise TaskError(f"{told}: give the folder of a model that holds its own tokenizer, or texts in its language")
    if share > MANY_UNKNOWN:
        logger.warning("%s", told)
