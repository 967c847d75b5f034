"""Networks in files of few bits a weight: bit-packed safetensors with a checksum, read back equal.

This is size, not speed: the network is unpacked to floats before it runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from coldpress.errors import ArtifactError, SurgeryError
from coldpress.files import write_tensors
from coldpress.surgery.grid import to_grid
from coldpress.surgery.packing import pack_levels, unpack_levels
from coldpress.surgery.round_weights import Rounded
from coldpress.workspace import explained

FORMAT = "1"
LEVELS, SCALES = ".levels", ".scales"


@dataclass(frozen=True)
class PackedSize:
    """Bytes of a packed file, by what they hold.

    Attributes:
        levels: weights at their few bits.
        scales: of the levels.
        others: everything that is not packed: biases, norms, other layers.
        header: names, shapes and the checksum.
    """

    levels: int
    scales: int
    others: int
    header: int

    @property
    def total(self) -> int:
        """Bytes of the file."""
        return self.levels + self.scales + self.others + self.header


def pack_weights(
    model: nn.Module,
    layers: Mapping[str, int | Rounded],
    path: str | Path,
    structure: Mapping[str, Mapping[str, Any]] | None = None,
) -> PackedSize:
    """Write a network, some layers' weights in few bits each (beside, then renamed); `coldpress.load` reads it.

    Args:
        model: the network.
        layers: module name to bits (2 to 8; weights are rounded to the nearest level of a grid that spans each
            output's largest weight; those on it already stay as they are), or to what `coldpress.round_weights` gave,
            which takes the bits that its levels need.
        path: of the file; ``.safetensors`` by custom.
        structure: ``Plan.structure``, where layers differ from the original's, so that `coldpress.load` rebuilds them.

    Returns:
        The file's bytes.

    Raises:
        ArtifactError: a name is no layer's with a weight, or the file cannot be written.
        SurgeryError: bits out of range, or weights that are NaN or infinite.

    Example:
        >>> import tempfile
        >>> net, file = nn.Sequential(nn.Linear(64, 32)), Path(tempfile.mkdtemp()) / "net.safetensors"
        >>> pack_weights(net, {"0": 3}, file).levels == 64 * 32 * 3 // 8
        True
    """
    path, tensors = Path(path), {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    described: dict[str, dict[str, Any]] = {}
    sizes = {LEVELS: 0, SCALES: 0}
    for layer, given in layers.items():
        name = f"{layer}.weight"
        if name not in tensors or tensors[name].dim() < 2:
            raise ArtifactError(f"{layer!r} is no layer of this model that has weights: name one that has")
        weight = tensors.pop(name)
        levels, scales, bits = _levels(name, weight, given)
        described[layer] = {"bits": bits, "shape": list(weight.shape), "dtype": str(weight.dtype).split(".")[-1]}
        for suffix, tensor in ((LEVELS, pack_levels(levels, bits)), (SCALES, scales)):
            tensors[name + suffix] = tensor
            sizes[suffix] += tensor.numel() * tensor.element_size()
    head = {"layers": described, "structure": dict(structure or {})}
    text = json.dumps(head, sort_keys=True)
    metadata = {"coldpress_packed": FORMAT, "head": text, "sha256": _digest(text, tensors)}
    with explained(path):
        write_tensors(path, tensors, metadata)
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    packed = sizes[LEVELS] + sizes[SCALES]
    return PackedSize(sizes[LEVELS], sizes[SCALES], stored - packed, path.stat().st_size - stored)


def read_packed(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A packed file's head (``layers`` and ``structure``) and all tensors of its network, unpacked.

    Raises:
        ArtifactError: the file is missing, truncated or damaged (its checksum is wrong), or no packed file.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path} is missing, truncated or damaged: {error}") from error
    if "coldpress_packed" not in metadata:
        raise ArtifactError(f"{path} holds no packed weights: coldpress.pack_weights writes such files")
    if metadata["coldpress_packed"] != FORMAT:
        raise ArtifactError(f"{path} is of format {metadata['coldpress_packed']!r}; this version reads {FORMAT}")
    text = metadata.get("head", "")
    if _digest(text, tensors) != metadata.get("sha256"):
        raise ArtifactError(f"{path} is damaged: its checksum is not that of its contents; copy or pack it again")
    try:
        head = dict(json.loads(text))
        for layer, described in head["layers"].items():
            tensors[f"{layer}.weight"] = _unpacked(f"{layer}.weight", described, tensors)
        return {"layers": head["layers"], "structure": head["structure"]}, tensors
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, SurgeryError) as error:
        raise ArtifactError(f"{path} cannot be unpacked: {error}") from error


def _levels(name: str, weight: Tensor, given: int | Rounded) -> tuple[Tensor, Tensor, int]:
    """Levels, scales ``(outputs, groups)`` and bits of a layer."""
    if not isinstance(given, Rounded):
        grid = to_grid(weight, given)
        return grid.levels, grid.scales[:, None], grid.bits
    levels, scales = given.levels, given.scales
    if levels.numel() != weight.numel() or len(levels) != len(weight) or levels.shape[1] % scales.shape[1]:
        raise ArtifactError(
            f"{name!r} is {tuple(weight.shape)}, its levels are {tuple(levels.shape)} with scales "
            f"{tuple(scales.shape)}: they must be of this layer, and groups of one size"
        )
    low, high = int(levels.min()), int(levels.max())
    bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1
    return levels, scales, max(bits, 2)


def _unpacked(name: str, described: Mapping[str, Any], tensors: dict[str, Tensor]) -> Tensor:
    shape, scales = [int(n) for n in described["shape"]], tensors.pop(name + SCALES)
    count = torch.Size(shape).numel()
    levels = unpack_levels(tensors.pop(name + LEVELS), int(described["bits"]), count)
    grouped = levels.float().reshape(*scales.shape, -1) * scales[:, :, None]
    dtype = getattr(torch, str(described["dtype"]))
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{described['dtype']!r} is no type of tensor")
    return grouped.reshape(shape).to(dtype)


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        # a copy, since what has one value counts as contiguous whatever its strides, and then has no bytes to view
        tensor = tensors[name].clone(memory_format=torch.contiguous_format)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
