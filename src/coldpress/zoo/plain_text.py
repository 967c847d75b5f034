"""Plain text for decoders: files that end in .txt, cut into windows of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from coldpress.errors import TaskError
from coldpress.windows import WindowData
from coldpress.zoo.encoding import check_known

SUFFIX = ".txt"
WINDOW = 128
HELD_OUT = 0.1

Parts = tuple[WindowData | None, WindowData | None, WindowData | None]


def tokens_of(path: Path, tokenizer: Any) -> Tensor:
    """The tokens of a text, ``(tokens,)`` int64; without a tokenizer its bytes.

    Raises:
        TaskError: the file cannot be read, or is not UTF-8, or most of it is unknown to the tokenizer.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} cannot be read as text: {error}") from error
    if tokenizer is None:
        return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8).long() if text else torch.empty(0).long()
    lines = [line for line in text.splitlines(keepends=True) if line]
    rows = tokenizer(lines, add_special_tokens=False, verbose=False)["input_ids"] if lines else []
    tokens = torch.tensor([token for row in rows for token in row], dtype=torch.long)
    check_known(tokens, tokenizer, str(path))
    return tokens


def read(files: Mapping[str, Path], tokenizer: Any, length: int = WINDOW) -> Parts:
    """Train, validation and test windows of plain text.

    Where no file is called test or validation, the last tenth of the train text is held out for each, so that no
    window of one lies within another. Windows that occur in a later part too, value for value, leave the earlier one.

    Args:
        files: by part: "train", "validation", "test".
        tokenizer: a Hugging Face tokenizer; None takes bytes for tokens.
        length: tokens in a window.

    Raises:
        TaskError: a file cannot be read, or is too short for a window.
    """
    texts = {part: tokens_of(path, tokenizer) for part, path in files.items()}
    for part in ("test", "validation"):
        if part not in texts and "train" in texts and not (part == "test" and "validation" in texts):
            cut = int(len(texts["train"]) * (1 - HELD_OUT))
            texts["train"], texts[part] = texts["train"][:cut], texts["train"][cut:]
    found = {part: WindowData.of(text, length) for part, text in texts.items()}
    train, validation, test = (found.get(part) for part in ("train", "validation", "test"))
    if validation is not None and test is not None:
        validation = validation.without(test)
    for other in (validation, test):
        train = train.without(other) if train is not None and other is not None else train
    return train, validation, test
