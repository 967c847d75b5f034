"""Image folders: one sub-folder of images a class, with train / validation / test folders above or without."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torchvision import datasets, transforms

from coldpress.data import TensorData
from coldpress.errors import TaskError
from coldpress.splits import split
from coldpress.zoo.cifar10 import IMAGENET_MEAN, IMAGENET_STD

NAMES = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}
IN_MEMORY = 2**30  # bytes of pixels up to which a folder of equally sized images is kept in memory


def read(path: Path, seed: int) -> tuple[Any, Any, Any]:
    """Train, validation and test (or None) of an image folder.

    Without sub-folders of these names, a tenth each is split off by the seed for validation and for test. Images that
    all have one size keep it; others are resized to 256 and cropped to 224 pixels.

    Raises:
        TaskError: the folder is missing, holds no image or one class only, or its parts have other classes.
    """
    if not path.is_dir():
        raise TaskError(f"no folder {path}; folder:PATH must name a folder of images, one sub-folder a class")
    found = {
        part: next((path / name for name in names if (path / name).is_dir()), None) for part, names in NAMES.items()
    }
    if found["train"] is None:
        rest, test = split(_read_part(path), seed)
        return (*split(rest, seed), test)
    parts = {part: _read_part(place) for part, place in found.items() if place is not None}
    classes = {part: parts[part].classes for part in parts}
    for part, names in classes.items():
        if list(names) != list(classes["train"]):
            raise TaskError(
                f"{path}: {part} has the classes {list(names)}, train {list(classes['train'])}; need the same"
            )
    train, validation = parts["train"], parts.get("validation")
    if validation is None:
        train, validation = split(train, seed)
    return train, validation, parts.get("test")


def _read_part(path: Path) -> Any:
    try:
        images = datasets.ImageFolder(str(path))
    except (FileNotFoundError, OSError) as error:
        raise TaskError(f"{path} holds no images in sub-folders, one a class ({error})") from error
    if len(images.classes) < 2:
        raise TaskError(f"{path} has one class only, {images.classes}; two sub-folders of images or more are needed")
    files = [name for name, _ in images.samples]
    size = _common_size(files)
    if size is not None and 3 * size[0] * size[1] * len(files) <= IN_MEMORY:
        pixels = np.stack([_pixels(name) for name in files]).transpose(0, 3, 1, 2)
        labels = torch.tensor(images.targets)
        return TensorData(
            torch.from_numpy(np.ascontiguousarray(pixels)),
            labels,
            tuple(images.classes),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            flip=True,
            pad=size[0] // 8,
        )
    crop = [] if size is not None else [transforms.Resize(256), transforms.CenterCrop(224)]
    images.transform = transforms.Compose(
        [*crop, transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    )
    return images


def _common_size(files: Sequence[str]) -> tuple[int, int] | None:
    sizes = set()
    for name in files:
        with _opened(name) as image:
            sizes.add(image.size)
        if len(sizes) > 1:
            return None
    return sizes.pop()


def _pixels(name: str) -> Any:
    with _opened(name) as image:
        try:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
        except OSError as error:
            raise TaskError(f"the image {name} is damaged ({error}); remove or replace it") from error


def _opened(name: str) -> Image.Image:
    try:
        return Image.open(name)
    except (UnidentifiedImageError, OSError) as error:
        raise TaskError(f"the image {name} cannot be read ({error}); remove or replace it") from error
