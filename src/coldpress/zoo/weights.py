"""Loading of weights: PyTorch state dicts and safetensors, never a pickled object."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from coldpress.errors import CheckpointError

SUFFIXES = (".th", ".pt", ".pth", ".safetensors")
WRAPPERS = ("state_dict", "model_state_dict", "model")


def load_weights(model: nn.Module, path: str | Path, ignore: Iterable[str] = ()) -> None:
    """Load a weights file into ``model``, in place; half precision is upcast to the model's own.

    Args:
        model: its state dict must have the names and shapes of the file.
        path: .th, .pt or .pth (a bare state dict, or one under ``state_dict``; ``module.`` prefixes or none), or
            .safetensors.
        ignore: prefixes of names in the file that are left out.

    Raises:
        CheckpointError: the file is missing, truncated, holds pickled objects, NaN or Inf, or does not fit the model.
    """
    path = Path(path)
    weights = {name: tensor for name, tensor in read_weights(path).items() if not name.startswith(tuple(ignore))}
    expected = model.state_dict()
    # Files without BatchNorm's counters come from older PyTorch, or from a plain conversion; nothing depends on them.
    missing = [n for n in expected if n not in weights and not n.endswith("num_batches_tracked")]
    unknown = [name for name in weights if name not in expected]
    if missing or unknown:
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: {_some('missing', missing)}{_some('unknown', unknown)}"
            "choose the model that it was saved from"
        )
    wrong = [
        f"{name} is {tuple(tensor.shape)}, the model's is {tuple(expected[name].shape)}"
        for name, tensor in weights.items()
        if tensor.shape != expected[name].shape
    ]
    if wrong:
        raise CheckpointError(
            f"{path} does not fit {type(model).__name__}: {_some('of another shape', wrong)}check num_classes"
        )
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{path}: tensor {name!r} holds NaN or Inf; use a checkpoint from before training diverged"
            )
    model.load_state_dict({n: t.to(expected[n].dtype) for n, t in weights.items()}, strict=False)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name, without ``module.`` prefixes. Raises CheckpointError as `load_weights`."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"no weights file {path}; check the path")
    if path.suffix not in SUFFIXES:
        raise CheckpointError(f"{path} ends in {path.suffix!r}; weights files end in {', '.join(SUFFIXES)}")
    found: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for wrapper in WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
            break
    if not isinstance(found, Mapping) or not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(
            f"{path} holds no state dict (names to tensors); save it with torch.save(model.state_dict(), ...)"
        )
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged or no safetensors file ({error}); fetch or save it again") from error


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error):
            raise CheckpointError(
                f"{path} holds pickled Python objects, which can run code when loaded, and is refused; "
                "save the weights alone with torch.save(model.state_dict(), ...)"
            ) from error
        raise CheckpointError(f"{path} is damaged or no PyTorch file; fetch or save it again") from error
    except (RuntimeError, OSError, EOFError, LookupError, ValueError, TypeError, struct.error) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}); fetch or save it again") from error


def _some(what: str, names: list[str], most: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{what}: {', '.join(names[:most])}{more}; "
