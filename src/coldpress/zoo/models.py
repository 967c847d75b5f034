"""Models by name, for the command line."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torchvision
from torch import nn

from coldpress.errors import TaskError
from coldpress.names import listed, meant
from coldpress.zoo import encoding, huggingface
from coldpress.zoo.cifar import CifarResNet
from coldpress.zoo.fashion import FashionCNN
from coldpress.zoo.hub import PREFIX as HUGGING_FACE
from coldpress.zoo.vision import ImageForm
from coldpress.zoo.weights import load_weights

BUNDLED = Path(__file__).parent / "bundled"
PRETRAINED = "pretrained"


def model(
    name: str, num_classes: int | None = None, weights: str | Path | None = None, next_token: bool | None = None
) -> nn.Module:
    """Build a model by name, in eval mode.

    Args:
        name: one of `model_names()`; ``torchvision:NAME``; ``timm:NAME`` (needs the extra ``coldpress[timm]``);
            ``hf:FOLDER_OR_NAME``, a classifier of texts or images, or a decoder, with its weights (needs
            ``coldpress[hf]``); or ``package.module:factory`` or ``path/file.py:factory``, a function of the user's that
            returns a module.
        num_classes: outputs of the classifier; the model's own default where None.
        weights: a weights file; "pretrained" for the published weights of a torchvision or timm model (downloaded), or
            the bundled ones of fashion_cnn; None for random weights.
        next_token: of ``hf:`` whether it is to be a decoder; None: what its configuration says.

    Raises:
        TaskError: the name is unknown (near ones are named), or the model cannot be built.
        CheckpointError: the weights cannot be used.

    Example:
        >>> model("cifar_resnet20").linear
        Linear(in_features=64, out_features=10, bias=True)
    """
    pretrained = weights == PRETRAINED
    arguments: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    ignored: tuple[str, ...] = ()
    prefix, _, rest = name.rpartition(":")
    if not prefix:
        if name not in _OWN:
            raise TaskError(
                f"no model is called {name!r}; there are {listed(model_names())}{meant(name, model_names())}"
            )
        built = _OWN[name](**arguments)
        if pretrained and name != "fashion_cnn":
            raise TaskError(f"{name} has no pretrained weights within coldpress; give a weights file")
        weights = BUNDLED / "fashion_cnn.safetensors" if pretrained else weights
    elif prefix == "torchvision":
        built, ignored = _torchvision(rest, pretrained, arguments)
    elif prefix == "timm":
        built = _timm(rest, pretrained, arguments)
    elif name.startswith(HUGGING_FACE):
        built = huggingface.network(name.removeprefix(HUGGING_FACE), num_classes, next_token)
        weights = None if pretrained else weights
    else:
        built = _users(prefix, rest, arguments)
        if pretrained:
            raise TaskError(f"{name} is yours: load its pretrained weights in the factory, or give a weights file")
    if weights is not None and weights != PRETRAINED:
        load_weights(built, weights, ignored)
    return built.eval()


def tokenizer(name: str) -> Any:
    """The tokenizer of a model by name; None where it has none. Raises TaskError when it cannot be loaded."""
    return encoding.tokenizer(name.removeprefix(HUGGING_FACE)) if name.startswith(HUGGING_FACE) else None


def image_form(name: str) -> ImageForm | None:
    """How a model by name wants its images; None where it does not say. Raises TaskError when it cannot be read."""
    return huggingface.image_form(name.removeprefix(HUGGING_FACE)) if name.startswith(HUGGING_FACE) else None


def model_names() -> tuple[str, ...]:
    """The names of coldpress' own models."""
    return tuple(sorted(_OWN))


def _cifar_resnet18(num_classes: int = 10) -> nn.Module:
    """torchvision's resnet18 for 3 x 32 x 32 images: a 3 x 3 stem of stride 2, and no max-pool."""
    built: nn.Module = torchvision.models.resnet18(num_classes=num_classes)
    built.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
    built.maxpool = nn.Identity()
    return built


_OWN: dict[str, Callable[..., nn.Module]] = {
    **{f"cifar_resnet{6 * n + 2}": functools.partial(CifarResNet, n) for n in (3, 5, 7, 9)},
    "cifar_resnet18": _cifar_resnet18,
    "fashion_cnn": FashionCNN,
}


def _torchvision(name: str, pretrained: bool, arguments: dict[str, Any]) -> tuple[nn.Module, tuple[str, ...]]:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = meant(f"torchvision:{name}", [f"torchvision:{other}" for other in known])
        raise TaskError(f"torchvision has no classifier called {name!r}; there are {listed(known)}{near}")
    ignored: tuple[str, ...] = ()
    if name in ("googlenet", "inception_v3"):
        # The auxiliary classifiers serve training from scratch alone.
        arguments = {**arguments, "init_weights": not pretrained} | ({} if pretrained else {"aux_logits": False})
        ignored = ("aux", "AuxLogits")
    try:
        return torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None, **arguments), ignored
    except Exception as error:
        raise TaskError(f"torchvision:{name} cannot be built with {arguments or 'its defaults'}: {error}") from error


def _timm(name: str, pretrained: bool, arguments: dict[str, Any]) -> nn.Module:
    try:
        timm = importlib.import_module("timm")
    except ImportError as error:
        raise TaskError(f"timm:{name} needs timm; install it with: pip install 'coldpress[timm]'") from error
    known = timm.list_models()
    if name.split(".")[0] not in known:
        near = meant(f"timm:{name}", [f"timm:{other}" for other in known])
        raise TaskError(f"timm has no model called {name!r}; there are {listed(known)}{near}")
    try:
        built: nn.Module = timm.create_model(name, pretrained=pretrained, **arguments)
    except Exception as error:
        raise TaskError(f"timm:{name} cannot be built with {arguments or 'its defaults'}: {error}") from error
    return built


def _users(module_name: str, factory_name: str, arguments: dict[str, Any]) -> nn.Module:
    name = f"{module_name}:{factory_name}"
    module = _import(module_name, name)
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise TaskError(f"{module_name} has no function {factory_name!r}{meant(factory_name, public)}")
    if arguments and not _takes(factory, "num_classes"):
        raise TaskError(f"{name} takes no argument num_classes; add one, or leave num_classes out")
    built = factory(**arguments)
    if not isinstance(built, nn.Module):
        raise TaskError(f"{name} returns a {type(built).__name__}; it must return a torch.nn.Module")
    return built


def _import(module_name: str, name: str) -> Any:
    if module_name.endswith(".py"):
        path = Path(module_name)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise TaskError(f"no file {path}, which the model {name!r} names; check the path")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        known = [*model_names(), "torchvision:resnet18", "timm:resnet18"]
        raise TaskError(f"the model {name!r} cannot be imported ({error}){meant(name, known)}") from error
    finally:
        sys.path.remove(here)


def _takes(factory: Callable[..., Any], argument: str) -> bool:
    parameters = inspect.signature(factory).parameters.values()
    return any(p.name == argument or p.kind is p.VAR_KEYWORD for p in parameters)
