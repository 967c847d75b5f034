"""The model and the data that a command is about, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from coldpress import zoo
from coldpress.data import MemoryData, example_of
from coldpress.errors import TaskError
from coldpress.recipe import Recipe
from coldpress.task import Task
from coldpress.tokens import TokenData
from coldpress.windows import WindowData
from coldpress.zoo import hub
from coldpress.zoo.encoding import positions
from coldpress.zoo.hub import PREFIX as HUGGING_FACE
from coldpress.zoo.huggingface import has_weights, vocabulary
from coldpress.zoo.plain_text import WINDOW

BYTES = range(256, 301)
"""Sizes of a vocabulary of bytes, and of some special tokens."""
LIBRARIES = ("torchvision", "timm")
IMAGE_SIZES = {"fashion_cnn": (1, 28, 28), "cifar": (3, 32, 32), "torchvision": (3, 224, 224), "timm": (3, 224, 224)}


def read_task(recipe: Recipe) -> Task:
    """The task that a recipe names. Raises TaskError or CheckpointError when it cannot be used."""
    splits = read_data(recipe)
    model = build_model(recipe.model, recipe.weights, recipe.num_classes, splits)
    data = next(part for part in (splits.train, splits.validation, splits.test) if part is not None)
    return Task(
        model,
        timing_example(data, recipe.tokens),
        **splits.arguments(),
        ignored_layers=recipe.ignored_layers,
        seed=recipe.seed,
        name=recipe.model,
    )


def timing_example(data: Any, tokens: int | None) -> tuple[Tensor, ...]:
    """Inputs of one sample, ``(1, ...)`` each, of so many tokens. Raises TaskError where there are none to count."""
    if tokens is None:
        return example_of(data)
    if not isinstance(data, TokenData | WindowData):
        raise TaskError(f"tokens is {tokens}, but the data holds no texts: leave --tokens out")
    return data.example(tokens=tokens)


def read_data(recipe: Recipe) -> zoo.Splits:
    """The data that a recipe names; texts are read with the tokenizer of its model, images in the form it wants.

    Windows of plain text are no longer than the model has positions for. Raises TaskError where ``tokens`` is more.
    """
    if recipe.data is None:
        raise TaskError(
            f"no data is given: --data NAME, one of {', '.join(zoo.data_names())}, folder:PATH, or a file of texts"
        )
    name = recipe.model or ""
    most = positions(hub.configuration(name.removeprefix(HUGGING_FACE))) if name.startswith(HUGGING_FACE) else None
    if most is not None and recipe.tokens is not None and recipe.tokens > most:
        raise TaskError(
            f"tokens is {recipe.tokens}, and {name} has positions for {most}: give --tokens {most}, or fewer"
        )
    window = recipe.tokens or min(WINDOW, most or WINDOW)
    found = zoo.data(recipe.data, recipe.data_dir, recipe.seed, zoo.tokenizer(name), window)
    return found.prepared(zoo.image_form(name))


def build_model(
    name: str | None,
    weights: str | None,
    num_classes: int | None = None,
    splits: zoo.Splits | None = None,
    *,
    untrained: bool = False,
) -> nn.Module:
    """A model by name, with as many outputs as the data has classes where nothing else is said.

    Args:
        name: as `zoo.model` takes it.
        weights: a file, "pretrained", or "random"; without it, fashion_cnn takes the bundled weights.
        num_classes: outputs; None takes the data's for models that do not bring their own.
        splits: the data.
        untrained: whether random weights are fine without being asked for.

    Raises:
        TaskError: no name, an unknown name, or no weights.
        CheckpointError: the weights cannot be used.
    """
    if name is None:
        raise TaskError(
            f"no model is given: --model NAME, one of {', '.join(zoo.model_names())}, torchvision:NAME, timm:NAME, "
            f"or yours as package.module:factory or file.py:factory"
        )
    prefix = name.rpartition(":")[0]
    own = bool(prefix) and prefix not in LIBRARIES
    if weights is None and name == "fashion_cnn" and not untrained:
        weights = "pretrained"
    known = name in zoo.model_names() or prefix in LIBRARIES  # an unknown name is for the zoo to tell
    if weights is None and known and not untrained:
        more = ", --weights pretrained" if prefix else ""
        raise TaskError(
            f"{name} would have random weights: give --weights FILE{more} or, if that is meant, --weights random"
        )
    given = None if weights == "random" else weights
    if name.startswith(HUGGING_FACE):
        if weights is None and not untrained and not has_weights(name.removeprefix(HUGGING_FACE)):
            raise TaskError(
                f"{name} holds no safetensors, so its weights would be random: give --weights FILE, one that coldpress "
                "train wrote, or, if that is meant, --weights random"
            )
        read = None if splits is None else isinstance(splits.train or splits.validation or splits.test, WindowData)
        model = zoo.model(name, num_classes, given, next_token=read)
        missing = getattr(model, "missing", ())
        if missing and weights is None and not untrained:
            raise TaskError(
                f"{name} brings no weights for {', '.join(missing[:3])}, so it was not trained for this: train it "
                "(coldpress train), or give --weights FILE, one that coldpress train wrote"
            )
        check_tokens(name, model, splits)
        return model
    if num_classes is None and splits is not None and not own and not (prefix and given == "pretrained"):
        num_classes = count_classes(splits)
    return zoo.model(name, num_classes, given)


def check_tokens(name: str, model: nn.Module, splits: zoo.Splits | None) -> None:
    """Raise TaskError where texts hold tokens that the model has no row for, or bytes that are not its tokens."""
    rows = vocabulary(model)
    if splits is None or rows is None:
        return
    parts = [part for part in (splits.train, splits.validation, splits.test) if part is not None]
    texts = [part for part in parts if isinstance(part, TokenData)]
    windows = [part for part in parts if isinstance(part, WindowData)]
    if windows and splits.tokenizer is None and rows not in BYTES and has_weights(name.removeprefix(HUGGING_FACE)):
        raise TaskError(
            f"{name} brings no tokenizer, and knows {rows} tokens, which are no bytes (those would be {BYTES[0]} to "
            f"{BYTES[-1]}): put the files of its tokenizer beside its config.json"
        )
    tokens = [ids for part in texts for ids in part.ids] + [ids for part in windows for ids in (part.ids, part.labels)]
    largest = max([int(ids.max()) for ids in tokens if len(ids)] + [part.padding for part in texts], default=0)
    if largest < rows:
        return
    if splits.tokenizer is None:
        raise TaskError(
            f"the text holds the byte {largest}, and the model knows {rows} tokens: give it a tokenizer, or a "
            "vocabulary of 256"
        )
    raise TaskError(
        f"the tokenizer gives token {largest}, and the model knows {rows}: they do not belong together; give the "
        "folder that holds the model's own tokenizer"
    )


def count_classes(splits: zoo.Splits) -> int | None:
    """How many classes the data names, None where it names none."""
    named = [part.classes for part in (splits.train, splits.validation, splits.test) if isinstance(part, MemoryData)]
    found = named or [getattr(part, "classes", ()) for part in (splits.train, splits.test) if part is not None]
    return next((len(classes) for classes in found if classes), None)


def example_for(name: str | None, shape: Sequence[int] | None) -> Tensor:
    """One random sample of the shape given, else of the shape that the named model is made for."""
    if shape is None:
        prefix = (name or "").rpartition(":")[0] or (name or "").partition("_")[0]
        shape = IMAGE_SIZES.get(name or "") or IMAGE_SIZES.get(prefix)
    if shape is None:
        raise TaskError(f"the input size of {name} is not known: give --data, or --input-shape, 3,32,32 say")
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


def check_new(path: Path, overwrite: bool) -> None:
    """Raise TaskError when a file to be written exists already."""
    if path.exists() and not overwrite:
        raise TaskError(f"{path} exists; choose another --out, or give --overwrite to replace it")
