"""The folder that a run leaves behind: written beside and renamed, read back without unpickling anything."""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import re
import shutil
import types
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from coldpress.errors import ArtifactError
from coldpress.files import write_tensors
from coldpress.logits import FirstOutput
from coldpress.packed import read_packed
from coldpress.plan import Plan
from coldpress.runtime.onnx import free_batch
from coldpress.surgery.structure import rebuild
from coldpress.workspace import explained

logger = logging.getLogger("coldpress.artifact")

FILES = ("plan.json", "recipe.yaml", "model.safetensors", "model.fp32.onnx", "model.onnx", "metrics.json", "log.jsonl")
PROGRAM = "model.pt2"
PACKED = "packed.safetensors"
PROGRAM_FILES = re.compile(
    r"archive_format|archive_version|byteorder|(\.data/)?version|\.data/serialization_id|models/model\.json"
    r"|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt"
)


def check_output(folder: Path, overwrite: bool) -> None:
    """Raise ArtifactError when an artifact cannot be put at ``folder``: it exists, or its parent cannot be written."""
    check_parent(folder)
    if folder.exists() and not overwrite:
        raise ArtifactError(f"{folder} exists; choose another --out, or give --overwrite to replace it")
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(f"{folder} is a file; an artifact is a folder: choose another --out")
    if folder.exists() and any(folder.iterdir()) and not (folder / "plan.json").is_file():
        raise ArtifactError(f"{folder} is not an artifact, so it is not replaced; choose another --out")


def check_parent(folder: Path) -> None:
    """Make a folder's parent. Raises ArtifactError when the folder has no name, or its parent cannot be written."""
    if folder.name in ("", ".."):
        raise ArtifactError(f"--out {str(folder)!r} names no folder of its own; give a new folder, such as run")
    parent = folder.absolute().parent
    with explained(parent):
        parent.mkdir(parents=True, exist_ok=True)
        if not os.access(parent, os.W_OK):
            raise ArtifactError(f"{parent} cannot be written; choose another --out")


def save_model(model: nn.Module, folder: Path, example_inputs: tuple[Tensor, ...]) -> None:
    """Write the network's weights, and where it can be exported the network itself as ``model.pt2``."""
    with explained(folder):
        write_tensors(folder / "model.safetensors", model.state_dict(), {"format": "pt"})
    try:
        inputs = tuple(torch.cat([x[:1], x[:1]]) for x in example_inputs)
        program = torch.export.export(model.eval(), inputs, dynamic_shapes=free_batch(model, inputs))
        torch.export.save(program, folder / PROGRAM)
        _check_program(folder / PROGRAM)
    except Exception as error:  # torch.export has no common base class for what it cannot do
        logger.warning("no %s: this model cannot be exported as a program (%s)", PROGRAM, type(error).__name__)
        (folder / PROGRAM).unlink(missing_ok=True)


def put_in_place(built: Path, folder: Path) -> None:
    """Rename a finished folder to its place; what was there goes only once the new one stands."""
    with explained(folder):
        if folder.exists():
            old = folder.with_name(f".{folder.name}.old.{os.getpid()}")
            folder.rename(old)
            try:
                built.rename(folder)
            except OSError:
                old.rename(folder)
                raise
            shutil.rmtree(old, ignore_errors=True)
        else:
            built.rename(folder)


def load(folder: str | Path, model_factory: Callable[[], nn.Module] | None = None) -> nn.Module:
    """The compressed float network of an artifact, in evaluation mode; its outputs equal ``model.fp32.onnx``.

    Args:
        folder: the artifact of `coldpress.compress` or `coldpress.round_to_artifact`, or a file that
            `coldpress.pack_weights` wrote.
        model_factory: builds an instance of the original network (its weights do not matter); without it the
            artifact must hold ``model.pt2``. A packed file, and an artifact that holds one, needs it.

    Raises:
        ArtifactError: if a file is missing or damaged, or the factory builds another network.

    Example:
        >>> model = load("run", lambda: torchvision.models.resnet18(num_classes=10))  # doctest: +SKIP
    """
    folder = Path(folder)
    packed = folder if folder.is_file() else folder / PACKED
    if packed.is_file():
        if model_factory is None:
            raise ArtifactError(f"{packed} holds weights alone: give load() a model_factory")
        head, weights = read_packed(packed)
        return _built(packed, model_factory, head["structure"], weights)
    if not folder.is_dir():
        raise ArtifactError(f"there is no artifact at {folder}: give the folder that coldpress compress wrote (--out)")
    if model_factory is None:
        return _load_program(folder)
    return _built(folder, model_factory, read_plan(folder).structure, _weights(folder))


def _built(
    source: Path,
    model_factory: Callable[[], nn.Module],
    structure: Mapping[str, Mapping[str, Any]],
    weights: dict[str, Tensor],
) -> nn.Module:
    """The network of a structure with the weights of ``source``."""
    model = model_factory()
    if not isinstance(model, nn.Module):
        raise ArtifactError(f"model_factory returned a {type(model).__name__}, not a torch.nn.Module")
    if _wrapped(model, (*weights, *structure)):
        model = FirstOutput(model)
    rebuild(model, structure)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ArtifactError(f"{source} does not hold this model: {str(error).splitlines()[1].strip()}") from error
    return model.eval()


def _wrapped(model: nn.Module, names: tuple[str, ...]) -> bool:
    """Whether names of tensors and modules are those of FirstOutput(model), not of a model with a part called model."""
    if not all(name.startswith("model.") for name in names):
        return False
    own = {name for name, _ in model.named_modules()}
    parts = [name.split(".") for name in names]
    deeper = {".".join(part[:end]) for part in parts for end in range(2, len(part))}
    return not deeper & own if deeper else "model" not in own


def read_plan(folder: Path) -> Plan:
    """The artifact's plan. Raises ArtifactError when it is missing."""
    try:
        return Plan.from_json((folder / "plan.json").read_text())
    except OSError as error:
        raise ArtifactError(f"{folder} holds no plan.json: is it a coldpress artifact?") from error


def read_metrics(folder: Path) -> dict[str, Any]:
    """The artifact's metrics. Raises ArtifactError when they are missing or damaged."""
    try:
        return dict(json.loads((folder / "metrics.json").read_text()))
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{folder}/metrics.json cannot be read: {error}") from error


def weights_file(folder: Path) -> Path:
    """The file that holds an artifact's weights."""
    packed = folder / PACKED
    return packed if packed.is_file() else folder / "model.safetensors"


def _weights(folder: Path) -> dict[str, Tensor]:
    path = folder / "model.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} is missing or damaged: {error}") from error


def _load_program(folder: Path) -> nn.Module:
    path = folder / PROGRAM
    if not path.is_file():
        raise ArtifactError(
            f"{folder} holds no {PROGRAM} (this model cannot be exported as a program): give load() a model_factory"
        )
    _check_program(path)
    try:
        program = torch.export.load(path).module()
    except Exception as error:  # torch.export has no common base class for what it cannot read
        raise ArtifactError(f"{path} cannot be read ({error}): give load() a model_factory") from error
    # torch refuses to switch a program's mode; this one was exported for evaluation and has no other
    for name in ("train", "eval"):
        setattr(program, name, types.MethodType(_as_it_is, program))
    return program


def _as_it_is(program: nn.Module, mode: bool = False) -> nn.Module:
    return program


def _check_program(path: Path) -> None:
    """Raise ArtifactError unless a program can be read without unpickling anything but plain tensors.

    Only the files that ``save_model`` writes are let through: torch.export unpickles others (older formats, custom
    objects) without restriction, and runs compiled code that it finds beside them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(set(names)) != len(names) or len({name.partition("/")[0] for name in names}) != 1:
                raise ArtifactError(f"{path} is damaged: its files are not those of one program")
            for name in names:
                inner = name.partition("/")[2]
                if not PROGRAM_FILES.fullmatch(inner):
                    raise ArtifactError(f"{path} holds pickled objects or code ({name}); coldpress never unpickles")
                if inner.endswith("_config.json") and _pickles(json.loads(archive.read(name))):
                    raise ArtifactError(f"{path} holds pickled tensors; coldpress never unpickles")
                if inner.endswith(".pt"):
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
            damaged = archive.testzip()
            if damaged is not None:
                raise ArtifactError(f"{path} is damaged: {damaged}")
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged: {error}") from error
    except pickle.UnpicklingError as error:
        raise ArtifactError(f"{path} holds pickled objects; coldpress never unpickles: {error}") from error


def _pickles(config: Any) -> bool:
    """Whether some entry of a payload's description asks for unpickling, or names a file that is no plain tensor's."""
    entries = config["config"].values() if isinstance(config, dict) and isinstance(config.get("config"), dict) else [{}]
    return any(
        not isinstance(entry, dict)
        or entry.get("use_pickle") is not False
        or not re.fullmatch(r"(weight|tensor)_\d+", str(entry.get("path_name")))
        for entry in entries
    )
