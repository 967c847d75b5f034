"""Image classifiers of Hugging Face (ViT, DeiT and their like), and how their images are prepared."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Subset
from torchvision import datasets, transforms

from coldpress.data import TensorData
from coldpress.errors import TaskError
from coldpress.zoo.cifar10 import IMAGENET_MEAN, IMAGENET_STD

logger = logging.getLogger("coldpress.zoo")

PREPROCESSOR = "preprocessor_config.json"
BICUBIC = 3  # Pillow's number of it


class ImageModel(nn.Module):
    """A transformers model that takes images, ``(batch, channels, height, width)``, and returns ``(batch, classes)``.

    Attributes:
        model: the transformers model.
        input_names: of its inputs.
        missing: parameters that the folder brings no weights for.
        preprocessor: the contents of preprocessor_config.json, empty where there is none.
    """

    missing: tuple[str, ...] = ()
    input_names = ("pixel_values",)

    def __init__(self, model: nn.Module, preprocessor: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.model = model
        self.preprocessor = dict(preprocessor or {})

    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=pixel_values).logits
        return logits


@dataclass(frozen=True)
class ImageForm:
    """How a model wants its images.

    Attributes:
        size: side in pixels; None leaves images as they are.
        shortest: pixels that the shorter side is resized to before ``size`` are cropped out of the middle; None resizes
            both sides to ``size``. Images that are kept in memory, all of one size, are never cropped.
        mean, std: per channel, of pixels from 0 to 1; empty leaves the data's own (ImageNet's, of a folder).
        bicubic: whether they are resized so; else bilinearly.
        classes: the model's names of its classes, ``()`` where nobody named them.
    """

    size: int | None
    shortest: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bicubic: bool = False
    classes: tuple[str, ...] = ()

    def of(self, part: Any) -> Any:
        """A data set of images in this form, its labels numbered as the model numbers its classes.

        Raises:
            TaskError: some of the data's classes are the model's, by name, and some are not.
        """
        if isinstance(part, TensorData):
            numbers = order_of(part.classes, self.classes)
            if numbers is not None:
                part = replace(part, classes=self.classes, labels=numbers[part.labels])
            if self.mean:
                part = replace(part, mean=self.mean, std=self.std)
            return replace(part, size=self.size or part.size)
        folder = part.dataset if isinstance(part, Subset) else part
        if isinstance(folder, datasets.ImageFolder):
            self._set(folder)
        return part

    def _set(self, folder: datasets.ImageFolder) -> None:
        """Change a folder in place; what shares it changes it to the same."""
        numbers = order_of(folder.classes, self.classes)
        if numbers is not None:
            folder.samples = [(file, int(numbers[label])) for file, label in folder.samples]
            folder.imgs, folder.targets = folder.samples, [label for _, label in folder.samples]
            folder.classes = list(self.classes)
            folder.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        mean, std = (self.mean, self.std) if self.mean and self.std else (IMAGENET_MEAN, IMAGENET_STD)
        last = [transforms.ToTensor(), transforms.Normalize(mean, std)]
        if self.size is None:
            folder.transform = transforms.Compose(last) if self.mean else folder.transform
            return
        how = transforms.InterpolationMode.BICUBIC if self.bicubic else transforms.InterpolationMode.BILINEAR
        size = self.shortest or (self.size, self.size)
        resized = [transforms.Resize(size, interpolation=how), transforms.CenterCrop(self.size)]
        folder.transform = transforms.Compose([*resized, *last])


def is_vision(transformers: Any, config: Any) -> bool:
    """Whether a configuration is that of an image classifier."""
    if any("ForImageClassification" in kind for kind in config.architectures or ()):
        return True
    images, texts = transformers.AutoModelForImageClassification, transformers.AutoModelForSequenceClassification
    return type(config) in images._model_mapping and type(config) not in texts._model_mapping


def preprocessor(place: str) -> dict[str, Any]:
    """The contents of preprocessor_config.json in a folder or on the hub; empty where there is none."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(place)
    except OSError:
        return {}
    return dict(found)


def image_form(name: str, config: Any, given: Mapping[str, Any], classes: tuple[str, ...]) -> ImageForm:
    """The form of a model's images.

    Args:
        name: the model's, for messages.
        config: its configuration; it tells the size where the preprocessor does not.
        given: contents of preprocessor_config.json, maybe none.
        classes: the model's names of its classes.

    Raises:
        TaskError: images are not square, or pixels are scaled otherwise than from 0 to 1.
    """
    factor = given.get("rescale_factor", 1 / 255)
    if not given.get("do_rescale", True) or abs(factor * 255 - 1) > 1e-3 or given.get("rescale_offset"):
        raise TaskError(
            f"{name} does not scale pixels from 0 to 1 (preprocessor_config.json): give it data of your own"
        )
    asked = given.get("size") if given.get("do_resize", True) else None
    shortest, side = None, _side(name, getattr(config, "image_size", None))
    if isinstance(asked, Mapping) and "shortest_edge" in asked:
        shortest = side = int(asked["shortest_edge"])
    elif asked is not None:
        side = _side(name, _sides(name, asked))
    if given.get("do_center_crop") and given.get("crop_size") is not None:
        crop = given["crop_size"]
        shortest, side = side, _side(name, _sides(name, crop))
    mean, std = tuple(given.get("image_mean") or ()), tuple(given.get("image_std") or ())
    if not given.get("do_normalize", True):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return ImageForm(side, shortest, mean, std, given.get("resample") == BICUBIC, classes)


def _sides(name: str, asked: Any) -> Any:
    """A preprocessor's size as a number, or as height and width. Raises TaskError where it is given otherwise."""
    if not isinstance(asked, Mapping):
        return asked
    if not {"height", "width"} <= set(asked):
        raise TaskError(
            f"{name} sizes images by {', '.join(map(str, asked))} (preprocessor_config.json), which is not known here: "
            "give it data of your own"
        )
    return asked["height"], asked["width"]


def order_of(found: Sequence[str], classes: Sequence[str]) -> Tensor | None:
    """The model's number of each of the data's classes, ``(classes,)``; None where no name is the model's.

    Raises:
        TaskError: some names are the model's, and some are not.
    """
    numbers = {name.casefold(): number for number, name in enumerate(classes)}
    unknown = [name for name in found if name.casefold() not in numbers]
    if len(unknown) == len(found):
        if found and classes:
            logger.warning("none of the data's classes is one of the model's by name: they are numbered in their order")
        return None
    if unknown:
        raise TaskError(
            f"the model has no class called {', '.join(unknown[:3])}; it has {', '.join(classes[:10])}: name the "
            "data's classes alike"
        )
    return torch.tensor([numbers[name.casefold()] for name in found])


def _side(name: str, size: Any) -> int | None:
    if size is None or isinstance(size, int):
        return size
    height, width = size
    if height != width:
        raise TaskError(f"{name} takes images of {height} x {width} pixels; only square ones can be prepared for it")
    return int(height)
